"""Tuning: Optuna searches recipes for the best mean metric over the held-out rows of the folds.

A trial is one recipe, a model a fold. Optuna is asked for a whole round of trials, which train
together, and is told all their results. The best trials of the best few heads, not the single
luckiest, become the ensemble.
What a round tries follows from the seed and the rounds before it, so a study that was killed and
resumed ends where an uninterrupted one ends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from pairfuse.console import log, progress
from pairfuse.data.pairs import MODALITIES
from pairfuse.errors import ConfigError
from pairfuse.features.views import Views
from pairfuse.fusion.fitting import ScaledRowSet, check_recipe, project
from pairfuse.fusion.heads import is_token_head
from pairfuse.recipe import BALANCES, Recipe
from pairfuse.study.crossfit import Table, cross_fit
from pairfuse.study.journal import open_storage
from pairfuse.study.objective import objective

if TYPE_CHECKING:
    import optuna

#: Heads that are searched unless others are named: the cheap ones. Each head's base point is a
#: trial, so that a search over all of them would leave few trials for the rest of the recipe.
SEARCHED = ("concat", "projected", "attention", "gated", "late", "linear")
#: Subsets of views are searched while there are at most so many.
_MAX_SUBSETS = 15
#: The best trial of so many heads vote together: different heads err on different pairs.
FINALISTS = 3
#: Trials that are asked for, and trained, together.
ROUND = 12
#: Epochs between looks at which trials are not worth going on with.
PRUNE_EVERY = 4
_RANGES = {
    "dropout": (0.0, 0.7),
    "lr": (5e-4, 1e-2),
    "weight_decay": (1e-3, 1.0),
    "label_smoothing": (0.0, 0.2),
}
_SIZES = {"hidden_dim": (32, 64, 128), "n_components": (32, 64, 128)}


@dataclass(frozen=True)
class Space:
    """What a search chooses among; `base` holds what it does not touch."""

    base: Recipe
    subsets: tuple[tuple[str, ...], ...]
    heads: tuple[str, ...]

    @classmethod
    def of(cls, views: Views, base: Recipe, heads: Sequence[str]) -> Space:
        """The base recipe's own head and views are among the choices.

        With a head that reads tokens the choice is among views that have some.
        """
        every = dict.fromkeys((*heads, base.head))
        for head in every:
            check_recipe(replace(base, head=head), views)
        reads_tokens = any(is_token_head(head) for head in every)
        subsets = view_subsets(views.only(sorted(views.tokens)) if reads_tokens else views)
        if base.views and tuple(sorted(base.views)) not in subsets:
            subsets.append(tuple(sorted(base.views)))
        return cls(base, tuple(subsets), tuple(every))


@dataclass(frozen=True)
class Tuned:
    """The best recipes of a study, best first, and what it took to find them.

    `value` is the mean over folds of the table's metric, of the best trial.
    """

    recipes: tuple[Recipe, ...]
    value: float
    finished: int
    pruned: int
    failed: int


def tune(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    base: Recipe,
    *,
    storage: str,
    name: str,
    trials: int,
    seed: int,
    heads: Sequence[str] = SEARCHED,
    members: int = 1,
    device: str = "cpu",
    keep: Callable[[Tuned], object] | None = None,
) -> Tuned:
    """Search until the study holds `trials` trials, finished or pruned; keep what earlier runs did.

    Args:
        table: Labelled rows; its views are those that the arm may use.
        prepared: R * K * members row sets; the search scores on the first repeat's folds.
        base: What the search does not touch (epochs, patience, ...); its point is tried first,
            then the same point with each other head.
        storage: A journal file's path, or the URL of an Optuna storage.
        name: Begins the study's name; a hash of data, folds and base follows, so that trials
            over other data are never mixed in.
        trials: How many trials the study should hold in the end.
        seed: Seed of search and training.
        heads: Heads to choose among; that of `base` is always one of them.
        members: Models for each fold; a trial trains the first.
        device: A torch device's name.
        keep: Called with the best so far after each finished trial, so that a kill loses nothing.

    Raises:
        ConfigError: The storage cannot be opened, no trial is finished, or the base recipe names
            an unknown head or view, or a head to choose among is unknown.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial's error is raised anyway
    space = Space.of(table.views, base, heads)
    study = _open_study(storage, f"{name}-{study_mark(table, prepared, space, seed)}")
    _fail_ghosts(study)
    if (done := _count(study)) < trials:
        for head in dict.fromkeys((base.head, *space.heads)):
            study.enqueue_trial(_point(replace(base, head=head), space), skip_if_exists=True)
        first_repeat = [part for part in prepared if part.rows.repeat == 0]
        firsts = project(table.views, first_repeat[::members])
    with progress(f"tuning {name}", trials, unit="trials") as bar:
        bar.update(done)
        while done < trials:
            size = min(ROUND - done % ROUND, trials - done)
            asked = [_ask(study, space, seed + done + number) for number in range(size)]
            for trial, value in _train_round(asked, table, firsts, seed, device):
                _tell(study, trial, value)
                if value is not None and keep:
                    keep(_best(study, space))
            bar.update(_count(study) - done)
            done = _count(study)
    return _best(study, space)


def read_trials(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    base: Recipe,
    *,
    storage: str,
    name: str,
    seed: int,
    heads: Sequence[str] = SEARCHED,
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The trials that `tune` keeps for these very rows, and the importance of what they varied.

    Returns:
        Number, value (None if pruned), state and params of each trial; the share of the variance
        of the values that each parameter explains (Hutter et al. 2014). Both empty for no trial.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = Space.of(table.views, base, heads)
    wanted, backend = f"{name}-{study_mark(table, prepared, space, seed)}", open_storage(storage)
    if wanted not in optuna.get_all_study_names(backend):
        return [], {}
    study = optuna.load_study(study_name=wanted, storage=backend)
    trials = [
        {"number": t.number, "value": t.value, "state": t.state.name.lower(), "params": t.params}
        for t in study.get_trials(deepcopy=False)
        if t.state.is_finished() and t.params
    ]
    try:
        importances = dict(
            optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed)
            )
        )
    except (ValueError, RuntimeError):  # too few trials, or all of one value
        importances = {}
    return trials, importances


def view_subsets(views: Views) -> list[tuple[str, ...]]:
    """Sets of views worth trying: those that see each modality that there is.

    A joint view sees both.
    """
    names = sorted(views.features)
    seen = {
        name: set(MODALITIES if kind == "joint" else (kind,))
        for name, kind in views.modality.items()
    }
    kinds = set().union(*seen.values())
    every = [
        subset
        for size in range(len(names), 0, -1)
        for subset in combinations(names, size)
        if set().union(*(seen[name] for name in subset)) == kinds
    ]
    return every[:_MAX_SUBSETS]


def suggest(trial: optuna.Trial, space: Space) -> Recipe:
    """Draw one recipe."""
    base = space.base
    views = trial.suggest_categorical("views", [" ".join(subset) for subset in space.subsets])
    drawn: Any = trial.suggest_categorical("balance", list(BALANCES))
    head = trial.suggest_categorical("head", list(space.heads))
    # what SMOTE makes has no tokens
    balance: Any = "weights" if drawn == "smote" and is_token_head(head) else drawn
    return replace(
        base,
        views=tuple(str(views).split(" ")),
        head=head,
        hidden_dim=trial.suggest_categorical(
            "hidden_dim", sorted({*_SIZES["hidden_dim"], base.hidden_dim})
        ),
        dropout=trial.suggest_float("dropout", *_RANGES["dropout"]),
        lr=trial.suggest_float("lr", *_RANGES["lr"], log=True),
        weight_decay=trial.suggest_float("weight_decay", *_RANGES["weight_decay"], log=True),
        label_smoothing=trial.suggest_float("label_smoothing", *_RANGES["label_smoothing"]),
        balance=balance,
        balance_strength=trial.suggest_float("balance_strength", 0.0, 1.0)
        if balance != "none"
        else 0.0,
        n_components=trial.suggest_categorical(
            "n_components", sorted({*_SIZES["n_components"], base.n_components})
        ),
        whitening=trial.suggest_float("whitening", 0.0, 1.0),
    )


def _point(base: Recipe, space: Space) -> dict[str, Any]:
    """The base recipe as a point of the search space, the nearest one if it lies outside."""
    values = asdict(base)
    point = {
        name: values[name]
        for name in ("head", "hidden_dim", "balance", "n_components", "whitening")
    }
    point |= {name: min(max(values[name], low), high) for name, (low, high) in _RANGES.items()}
    point["views"] = " ".join(tuple(sorted(base.views)) or space.subsets[0])
    if base.balance != "none":
        point["balance_strength"] = base.balance_strength
    return point


def _ask(study: optuna.Study, space: Space, seed: int) -> tuple[optuna.Trial, Recipe]:
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND, multivariate=True)
    trial = study.ask()
    return trial, suggest(trial, space)


def _train_round(
    asked: Sequence[tuple[optuna.Trial, Recipe]],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    seed: int,
    device: str,
) -> list[tuple[optuna.Trial, float | None]]:
    """Train all recipes together; the mean metric of each, None where it was pruned."""
    pruned: set[int] = set()

    def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
        trial = asked[number][0]
        if epoch % PRUNE_EVERY == 0 and number not in pruned and np.isfinite(values).all():
            trial.report(float(np.mean(values)), epoch)
            if trial.should_prune():
                pruned.add(number)
        return number in pruned

    recipes = [recipe for _, recipe in asked]
    fits = cross_fit(table, prepared, recipes, seed=seed, device=device, on_epoch=watch)
    out: list[tuple[optuna.Trial, float | None]] = []
    for number, ((trial, _), fit) in enumerate(zip(asked, fits, strict=True)):
        scores = [objective(table, part.rows.held_out, fit) for part in prepared]
        out.append((trial, None if number in pruned else float(np.mean(scores))))
    return out


def _tell(study: optuna.Study, trial: optuna.Trial, value: float | None) -> None:
    import optuna

    if value is None:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    else:
        study.tell(trial, value)


def _open_study(storage: str, name: str) -> optuna.Study:
    import optuna

    try:
        return optuna.create_study(
            storage=open_storage(storage),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.PercentilePruner(50.0, n_startup_trials=6, n_warmup_steps=4),
        )
    except Exception as error:  # each storage raises its own kind
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"the study's storage {storage} cannot be opened ({reason}); remove the file, or "
            "check the URL given by --storage"
        ) from error


def _fail_ghosts(study: optuna.Study) -> None:
    """Trials that a killed run left RUNNING are marked failed; what they tried is tried again."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        point = trial.params or trial.system_attrs.get("fixed_params")
        if point:  # first: a kill in between tries a point twice
            study.enqueue_trial(point)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        log.warning("trial %d was left unfinished by an earlier run: marked failed", trial.number)


def _count(study: optuna.Study) -> int:
    """Trials that ended; failed ones never count."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def _best(study: optuna.Study, space: Space) -> Tuned:
    import optuna

    counts = dict.fromkeys(optuna.trial.TrialState, 0)
    for trial in study.get_trials(deepcopy=False):
        counts[trial.state] += 1
    if not counts[optuna.trial.TrialState.COMPLETE]:
        raise ConfigError("no trial is finished; run `pairfuse tune` with --trials 1 or more")
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    ranked = sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))
    by_head: dict[str, optuna.trial.FrozenTrial] = {}
    for trial in ranked:
        by_head.setdefault(trial.params["head"], trial)
    chosen = list(by_head.values())[:FINALISTS]
    return Tuned(
        recipes=tuple(suggest(_fixed(t.params), space) for t in chosen),
        value=float(study.best_value),
        finished=counts[optuna.trial.TrialState.COMPLETE],
        pruned=counts[optuna.trial.TrialState.PRUNED],
        failed=counts[optuna.trial.TrialState.FAIL],
    )


def _fixed(params: dict[str, Any]) -> Any:
    import optuna

    return optuna.trial.FixedTrial(params)


def study_mark(table: Table, prepared: Sequence[ScaledRowSet], space: Space, seed: int) -> str:
    """Eight hex digits of all that the trials and their values depend on.

    The search space is part of it: Optuna refuses a study whose choices have changed.
    """
    choices = [space.heads, _RANGES, _SIZES]
    if table.metric != "macro_f1":  # studies made when there was no other go on
        choices.append(table.metric)
    digest = hashlib.sha256(json.dumps([asdict(space.base), table.labels, seed, choices]).encode())
    digest.update(np.ascontiguousarray(table.targets).tobytes())
    if table.answers:
        for told in (table.answers.classes, table.answers.right, table.answers.shares):
            digest.update(told.tobytes())
    for part in prepared:
        digest.update(part.rows.train.tobytes() + part.rows.held_out.tobytes())
    for view, values in sorted(table.views.features.items()):
        digest.update(view.encode() + np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:8]
