"""Tuning: Optuna searches recipes for the best mean metric over the held-out rows of the folds.

A trial is one recipe, with one model a fold. Optuna is asked for a whole round of trials, which
train together, and is then told all their results. The best trials of the best few heads, not the
single luckiest, become the ensemble. What a round tries follows from the seed and the rounds before
it, so a study that was killed and resumed ends where an uninterrupted one ends.

Trials are kept in a journal file, a line for each thing that happened, none ever rewritten; or in
an Optuna storage by its URL.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pairfuse.config import Config
from pairfuse.console import log, note, progress
from pairfuse.errors import ConfigError
from pairfuse.files import NO_LOCKS, locked
from pairfuse.fusion.fitting import ScaledRowSet, project
from pairfuse.recipe import Recipe
from pairfuse.study.crossfit import Table, cross_fit
from pairfuse.study.folds import outer_folds
from pairfuse.study.objective import objective
from pairfuse.study.search_space import (
    RANGES,
    SEARCHED_HEADS,
    SIZES,
    SearchSpace,
    build_space,
    nearest_params,
    suggest,
)

if TYPE_CHECKING:
    import optuna

#: The best trial of each of so many heads joins the ensemble: different heads err on different
#: pairs, so that their mean is better than any of them.
FINALISTS = 3
#: Trials that are asked for, and trained, together; also those drawn at random before the sampler
#: (TPE, Bergstra et al. 2011) has results to learn from.
ROUND = 12
#: Epochs between the checks of which trials are not worth going on with.
PRUNE_EVERY = 4
#: A trial below the median of earlier ones at the same epoch is pruned, once so many have finished.
PRUNE_AFTER = 6


@dataclass(frozen=True)
class SearchSpec:
    """What every arm searches, and what it may spend on it; the same for all arms of a study.

    Attributes:
        base: What the search does not touch; its own point is tried first.
        heads: Heads to choose among; that of `base` is always one of them.
        n_trials: Trials that a study holds in the end.
        seed: Seed of search and training.
        device: A torch device's name.
        storage: A journal file's path, or the URL of an Optuna storage.
        lock: The file that a search locks while it runs; none for one beside the journal.
    """

    base: Recipe
    storage: str
    n_trials: int
    lock: str = ""
    seed: int = 0
    device: str = "cpu"
    heads: tuple[str, ...] = SEARCHED_HEADS


@dataclass(frozen=True)
class TuningResult:
    """The best recipes of a study, best first, and what it took to find them.

    `value` is the mean over folds of the table's metric, of the best trial.
    """

    recipes: tuple[Recipe, ...]
    value: float
    finished: int
    pruned: int
    failed: int


def build_search(config: Config, *, device: str) -> SearchSpec:
    """The search that a configuration asks for; its trials lie in the run folder by default."""
    study = config.study
    return SearchSpec(
        base=config.recipe,
        storage=study.storage or str(config.run_folder / "study.log"),
        n_trials=study.n_trials,
        lock=str(config.run_folder / "study.leader") if "://" in study.storage else "",
        seed=study.seed,
        device=device,
        heads=study.heads or SEARCHED_HEADS,
    )


def tune(
    table: Table,
    prepared: Sequence[ScaledRowSet],
    search: SearchSpec,
    *,
    name: str,
    on_trial: Callable[[TuningResult], object] | None = None,
) -> TuningResult:
    """Search until the study holds `n_trials`, finished or pruned; keep what earlier runs did.

    A study has one leader at a time: another search in the same storage is waited for, whose trials
    would otherwise be taken for those of a dead one.

    Args:
        table: Labelled rows; its views are those that the arm may use.
        prepared: Row sets; the search trains the first model of each fold of the first repeat.
        search: What to search. The base recipe is tried first, then the same with each other head.
        name: Begins the study's name; a hash of data, folds and search space follows, so that
            trials over other data are never mixed in.
        on_trial: Called with the best so far after each finished trial, so that a kill loses
            nothing.

    Raises:
        ConfigError: The storage cannot be opened, no trial is finished, or the base recipe names
            an unknown head or view, or a head to choose among is unknown.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)  # a failed trial's error is raised anyway
    space = build_space(table.views, search.base, search.heads)
    fingerprint = study_fingerprint(table, prepared, space, search.seed)
    with _leading(search):
        study = _open_study(search.storage, f"{name}-{fingerprint}")
        _search(study, space, table, prepared, search, name=name, on_trial=on_trial)
        return _result(study, space)


def _search(
    study: optuna.Study,
    space: SearchSpace,
    table: Table,
    prepared: Sequence[ScaledRowSet],
    search: SearchSpec,
    *,
    name: str,
    on_trial: Callable[[TuningResult], object] | None,
) -> None:
    """Rounds of trials until there are enough.

    Where a search on another machine took this one for dead and marked its trials failed, their
    results are left out and the search goes on.
    """
    import optuna

    _fail_interrupted_trials(study)
    done = _count_ended(study)
    if done < search.n_trials:
        _enqueue_base_points(study, space, search.n_trials)
        prepared = project(table.views, _first_models(prepared))
    with progress(f"tuning {name}", search.n_trials, unit="trials") as bar:
        bar.update(done)
        while done < search.n_trials:
            size = min(ROUND - done % ROUND, search.n_trials - done)
            asked = [_next_trial(study, space, seed=search.seed + done + n) for n in range(size)]
            for trial, value in _train_round(asked, table, prepared, search):
                if value is None:
                    study.tell(trial, state=optuna.trial.TrialState.PRUNED, skip_if_finished=True)
                    continue
                study.tell(trial, value, skip_if_finished=True)
                if on_trial:
                    on_trial(_result(study, space))
            bar.update(_count_ended(study) - done)
            done = _count_ended(study)


def read_trials(
    table: Table, prepared: Sequence[ScaledRowSet], search: SearchSpec, *, name: str
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """The trials that `tune` keeps for these very rows, and the importance of what they varied.

    Returns:
        Number, value (None if pruned), state and params of each trial; the share of the variance
        of the values that each parameter explains (fANOVA, Hutter et al. 2014). Both are empty
        where there is no trial.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = build_space(table.views, search.base, search.heads)
    fingerprint = study_fingerprint(table, prepared, space, search.seed)
    wanted = f"{name}-{fingerprint}"
    with _readable(search.storage):
        storage = open_storage(search.storage)
        if wanted not in optuna.get_all_study_names(storage):
            return [], {}
        study = optuna.load_study(study_name=wanted, storage=storage)
    trials = [
        {"number": t.number, "value": t.value, "state": t.state.name.lower(), "params": t.params}
        for t in study.get_trials(deepcopy=False)
        if t.state.is_finished() and t.params
    ]
    try:
        importances = dict(
            optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=search.seed)
            )
        )
    except (ValueError, RuntimeError):  # too few trials, or all of one value
        importances = {}
    return trials, importances


def study_fingerprint(
    table: Table, prepared: Sequence[ScaledRowSet], space: SearchSpace, seed: int
) -> str:
    """Eight hex digits of all that the trials and their values depend on.

    The search space is part of it: Optuna refuses a study whose choices have changed. The number
    of trials is not: a study can be asked for more.
    """
    choices = [space.heads, RANGES, SIZES]
    if table.metric != "macro_f1":  # studies made when there was no other go on
        choices.append(table.metric)
    digest = hashlib.sha256(json.dumps([asdict(space.base), table.labels, seed, choices]).encode())
    digest.update(np.ascontiguousarray(table.targets).tobytes())
    if soft := table.soft_labels:
        for values in (soft.classes, soft.accuracy, soft.shares):
            digest.update(values.tobytes())
    for part in prepared:
        digest.update(part.rows.train.tobytes() + part.rows.held_out.tobytes())
    for view, features in sorted(table.views.features.items()):
        digest.update(view.encode() + np.ascontiguousarray(features).tobytes())
    return digest.hexdigest()[:8]


def _enqueue_base_points(study: optuna.Study, space: SearchSpace, most: int) -> None:
    """Try the base recipe first, then the same with each other head, as far as there are trials.

    One too many would be tried in place of a trial that was interrupted and comes after it.
    """
    for head in list(dict.fromkeys((space.base.head, *space.heads)))[:most]:
        params = nearest_params(replace(space.base, head=head), space)
        study.enqueue_trial(params, skip_if_exists=True)


def _first_models(prepared: Sequence[ScaledRowSet]) -> list[ScaledRowSet]:
    """The first row set of each fold of the first repeat.

    They are enough to rank recipes, at 1 / (R * n_models) of the price of all row sets.
    """
    return [prepared[fold.sets[0]] for fold in outer_folds(prepared) if fold.repeat == 0]


def _next_trial(
    study: optuna.Study, space: SearchSpace, *, seed: int
) -> tuple[optuna.Trial, Recipe]:
    """A trial whose values follow from the seed and the finished trials, not from the process.

    A sampler is not stored with its study: a new one, seeded by the trial's number, draws the same
    in a resumed run. `multivariate` lets it model parameters together, since a good learning rate
    depends on head and size (Falkner et al. 2018).
    """
    import optuna

    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=ROUND, multivariate=True)
    trial = study.ask()
    return trial, suggest(trial, space)  # drawn now: the next trial brings another sampler


def _train_round(
    asked: Sequence[tuple[optuna.Trial, Recipe]],
    table: Table,
    prepared: Sequence[ScaledRowSet],
    search: SearchSpec,
) -> list[tuple[optuna.Trial, float | None]]:
    """Train each recipe; the mean metric of each, None where it was pruned."""
    from optuna.exceptions import UpdateFinishedTrialError

    trials, recipes = zip(*asked, strict=True)
    pruned: set[int] = set()

    def watch(number: int, epoch: int, values: Sequence[float]) -> bool:
        # A model that diverged (`monitor = loss`) has no number to report.
        if epoch % PRUNE_EVERY == 0 and number not in pruned and np.isfinite(values).all():
            try:
                trials[number].report(float(np.mean(values)), epoch)
                if trials[number].should_prune():
                    pruned.add(number)
            except UpdateFinishedTrialError:  # ended by a search on another machine
                pruned.add(number)
        return number in pruned

    fits = cross_fit(
        table, prepared, recipes, seed=search.seed, device=search.device, on_epoch=watch
    )
    # The mean over folds, not the metric of all rows at once: each fold has a model of its own, and
    # probabilities of different models need not be on one scale, as AUROC takes them to be.
    out: list[tuple[optuna.Trial, float | None]] = []
    for number, (trial, fit) in enumerate(zip(trials, fits, strict=True)):
        scores = [objective(table, part.rows.held_out, fit) for part in prepared]
        out.append((trial, None if number in pruned else float(np.mean(scores))))
    return out


def _fail_interrupted_trials(study: optuna.Study) -> None:
    """Trials that a killed run left RUNNING are marked failed; what they tried is tried again."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        params = trial.system_attrs.get("fixed_params", {}) | trial.params  # it may be half drawn
        if params:  # before the state: a kill in between tries them twice, and never loses them
            study.enqueue_trial(params)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        log.warning("trial %d was left unfinished by an earlier run: marked failed", trial.number)


def _count_ended(study: optuna.Study) -> int:
    """Trials that ended; failed ones never count."""
    import optuna

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def _result(study: optuna.Study, space: SearchSpace) -> TuningResult:
    """The best trial of each of the best heads, and how the trials ended."""
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
    return TuningResult(
        recipes=tuple(suggest(optuna.trial.FixedTrial(t.params), space) for t in chosen),
        value=float(study.best_value),
        finished=counts[optuna.trial.TrialState.COMPLETE],
        pruned=counts[optuna.trial.TrialState.PRUNED],
        failed=counts[optuna.trial.TrialState.FAIL],
    )


def _open_study(storage: str, name: str) -> optuna.Study:
    import optuna

    with _readable(storage):
        return optuna.create_study(
            storage=open_storage(storage),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.PercentilePruner(
                50.0, n_startup_trials=PRUNE_AFTER, n_warmup_steps=PRUNE_EVERY
            ),
        )


@contextmanager
def _readable(storage: str) -> Iterator[None]:
    """Say in one line that a storage is damaged or cannot be reached."""
    try:
        yield
    except (ConfigError, OSError):  # what the system refuses is no damage
        raise
    except Exception as error:  # each storage raises its own kind
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            f"the study's storage {storage} cannot be opened ({reason}); remove the file, or "
            "check the URL given by --storage"
        ) from error


def open_storage(storage: str) -> Any:
    """A journal file, mended where a full disk tore it, or a URL as it is."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    if "://" in storage:
        return storage
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    lock: Any = _JournalLock(Path(storage))
    try:
        _cut_torn_line(Path(storage), lock)
    except IsADirectoryError as error:
        raise ConfigError(
            f"the study's storage {storage} cannot be opened: it is a folder; name a file or a URL "
            "with --storage"
        ) from error
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise ConfigError(
            f"the file system of {storage} knows no locks ({error.strerror}), and two searches "
            "would spoil the journal; name a database, as in --storage postgresql://host/studies"
        ) from error
    return optuna.storages.JournalStorage(JournalFileBackend(storage, lock_obj=lock))


@contextmanager
def _leading(search: SearchSpec) -> Iterator[None]:
    """Be the only search in this storage; the system ends the lock with its process."""
    if "://" not in search.storage:
        with _readable(search.storage):
            open_storage(search.storage)  # refuses a file system without locks
    elif not search.lock:
        yield
        return
    # `<journal>.lock` is the name of Optuna's own journal lock: whoever opens the journal with that
    # would wait for ours, 30 s long.
    lock = Path(search.lock or f"{search.storage}.leader")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with locked(lock, on_wait=lambda: note(f"tune      waits for another search in {lock.parent}")):
        yield


class _JournalLock:
    """A lock that the system frees when its process dies.

    Optuna's own lock is a file, which a killed run leaves: the next one would wait for 30 s.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.held = ExitStack()

    def acquire(self) -> bool:
        self.held.enter_context(locked(self.journal, required=True))
        return True

    def release(self) -> None:
        self.held.close()


def _cut_torn_line(journal: Path, lock: _JournalLock) -> None:
    """A full disk leaves half a line; with another line behind it the journal would be unreadable.

    No trial is lost: Optuna reports a line as written only after all of it is.
    """
    lock.acquire()
    try:
        with journal.open("r+b") as file:
            found = file.read()
            whole = found.rfind(b"\n") + 1
            if whole < len(found):
                log.warning("%s ended in half a line, which was cut off", journal)
                file.truncate(whole)
    finally:
        lock.release()
