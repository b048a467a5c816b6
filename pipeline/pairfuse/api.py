"""What `import pairfuse as pf` gives beside the classifier: data, features, out-of-fold
probabilities and the ablation, as plain calls; nothing is written but into the cache folder.

What trains, and torch with it, is imported when a call needs it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairfuse.config import METRIC_NAMES, Ensembling, StudyConfig
from pairfuse.console import log
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.image_facts import image_facts_file, mark_unreadable
from pairfuse.data.loading import load_dataset as load
from pairfuse.data.pairs import Dataset, Pair, Split
from pairfuse.data.profile import profile, summary
from pairfuse.data.rare_labels import change_labels, pairs_needed, rare_changes
from pairfuse.data.readers import DEFAULT_METRIC
from pairfuse.data.soft_labels import soft_labels_of
from pairfuse.encoders import Encoder, build_encoders, resolve_device
from pairfuse.encoders.defaults import resolve_encoders
from pairfuse.errors import ConfigError, DataError, PairfuseError, shown
from pairfuse.features.extraction import Extraction, contents, extract
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.views import Views, load_views, targets_of
from pairfuse.recipe import Recipe

if TYPE_CHECKING:
    from pairfuse.fusion.classifier import FusionClassifier
    from pairfuse.fusion.fitting import ScaledRowSet
    from pairfuse.stats.metrics import Scores
    from pairfuse.study.ablation import Arm
    from pairfuse.study.cost import EncoderCost
    from pairfuse.study.crossfit import Table
    from pairfuse.study.evidence import Evidence
    from pairfuse.study.tuning import SearchSpec
    from pairfuse.study.verdict import Verdict

__all__ = [
    "AblationStudy",
    "Pairs",
    "ablate",
    "cross_val_proba",
    "extract_features",
    "load_dataset",
]

#: Libraries whose versions may change a score.
_LIBRARIES = ("pairfuse", "torch", "numpy", "scikit-learn", "optuna")


@dataclass(frozen=True, repr=False)
class Pairs:
    """Some pairs of a data set, in its order: the rows that X, y and groups have in common.

    `load_dataset` gives the labelled pairs, those of train and val; `split("test")` the others.

    Attributes:
        dataset: The whole data set as it was read: its pairs, its labels and what was wrong.
        pairs: N of its pairs.
        cache: The folder of everything derived from it.
    """

    dataset: Dataset
    pairs: tuple[Pair, ...]
    cache: Path

    def __len__(self) -> int:
        return len(self.pairs)

    def __repr__(self) -> str:
        return f"Pairs({len(self)} of {self.dataset.root}, labels {', '.join(self.labels)})"

    @property
    def labels(self) -> tuple[str, ...]:
        """The label vocabulary, in order."""
        return self.dataset.labels

    @property
    def guids(self) -> tuple[str, ...]:
        """The pairs' ids."""
        return tuple(pair.guid for pair in self.pairs)

    @property
    def texts(self) -> list[str]:
        """The pairs' texts, empty where one is missing."""
        return [pair.text or "" for pair in self.pairs]

    @property
    def y(self) -> NDArray[Any]:
        """The pairs' labels as strings, shape (N,).

        Raises:
            DataError: A pair has none.
        """
        found = [pair.label for pair in self.pairs if pair.label is not None]
        if len(found) < len(self.pairs):
            raise DataError(
                f"{len(self.pairs) - len(found)} of {len(self.pairs)} pairs have no label; "
                'the labelled ones are .split("train", "val")'
            )
        return np.array(found)

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Numbers of the groups of duplicates (equal text or nearly equal image), shape (N,)."""
        place = {pair.guid: row for row, pair in enumerate(self.dataset.pairs)}
        every = duplicate_groups(self.dataset)
        return every[[place[guid] for guid in self.guids]]

    def split(self, *splits: Split) -> Pairs:
        """The data set's pairs of the named splits: "train", "val", "test"."""
        return replace(self, pairs=self.dataset.split(*splits))


def load_dataset(
    root: str | Path,
    reader: str = "auto",
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str = "auto",
    labels: Sequence[str] = (),
    strict: bool = False,
    missing_labels: Sequence[str] = (),
    follow_links: bool = False,
    image_root: str | Path | None = None,
    split_file: str | Path | None = None,
    rare: str = "refuse",
    folds: int = 5,
    cache: str | Path = "cache",
) -> Pairs:
    """Read a data set and give its labelled pairs.

    Args:
        root: Folder of the data set, or a table file.
        reader: A name that `pairfuse help data` lists; "auto" takes the first that fits.
        columns: For a table: part (id, text, image, ...) to column name.
        encoding: One encoding for all texts, or "auto" to decide by the whole data set.
        labels: The label vocabulary in order; empty takes the labels found, sorted.
        strict: A missing or unreadable modality is an error.
        missing_labels: Words that stand for no label.
        follow_links: Symbolic links may lead out of the data set's folder.
        image_root: Base folder of the paths of images in a table; None takes the table's own.
        split_file: A table of the split of each pair, which replaces the reader's own; folds that
            it names are for the command line alone.
        rare: Labels with too few different pairs for the folds: "drop" leaves their pairs out,
            "merge" makes them one class, "refuse" leaves them to what deals the folds.
        folds: How many folds there will be, which says what is rare.
        cache: Folder of everything derived; safe to delete.

    Raises:
        DataError: Rows that cannot be used, all of them named.
        ConfigError: An option is not one of those above.

    >>> data = load_dataset("data/demo")
    >>> data
    Pairs(60 of data/demo, labels negative, neutral, positive)
    >>> data.y.shape, data.groups.shape, len(data.texts), len(data.split("test"))
    ((60,), (60,), 60, 10)
    """
    if rare not in ("refuse", "drop", "merge"):
        raise ConfigError(f"rare is {shown(rare)}; use refuse, drop or merge")
    if folds < 2:
        raise ConfigError(f"folds is {shown(folds)}; use 2 or more")
    cache = Path(cache)
    dataset = load(
        Path(root),
        reader=reader,
        columns=columns,
        encoding=encoding,
        labels=labels,
        strict=strict,
        missing_labels=missing_labels,
        follow_links=follow_links,
        image_root=None if image_root is None else Path(image_root),
        split_file=None if split_file is None else Path(split_file),
        facts_file=image_facts_file(cache),
    )
    dataset = change_labels(dataset, rare_changes(dataset, rare, folds), pairs_needed(folds))
    return Pairs(dataset, dataset.split("train", "val"), cache)


def extract_features(
    data: Pairs,
    encoders: Sequence[str] = ("auto",),
    *,
    cache: str | Path | None = None,
    device: str = "auto",
    pooling: str = "auto",
    max_length: int = 64,
    truncation: str = "head",
    precision: str = "auto",
    tokens: bool = False,
    batch_size: int = 0,
    workers: int = 0,
) -> Views:
    """Features of the pairs by each encoder; what the store holds is not computed again.

    An image that cannot be decoded is missing from then on.

    Args:
        data: N pairs.
        encoders: Each a name that `pairfuse encoders` lists, `name=folder` for other weights, or
            `text=`, `image=`, `joint=` with a folder or hub id. `auto` is those that come with the
            installation, `lexicon` among them where the texts are mostly English.
        cache: Folder of the feature store; None is that of the data.
        device: A torch device's name, or "auto".
        pooling: How tokens of text become one vector: auto, cls, mean, pooler, last2, last4,
            mean-of-layers.
        max_length: Tokens kept of a text.
        truncation: What is kept of a longer text: head or head-tail.
        precision: auto, fp32, bf16 or fp16.
        tokens: Encoders that give a sequence keep it beside the pooled vector.
        batch_size: 0 takes the encoder's own.
        workers: Threads that prepare inputs; 0 takes one for each core.

    Raises:
        ConfigError: An unknown or repeated encoder, or an option out of range.
        EncoderError: Weights are not to be had.
        StoreError: The store cannot be written, or is damaged.

    >>> data = load_dataset("data/demo")
    >>> extract_features(data, ["ngram", "efficientnet-lite0"])
    Views(60 rows: ngram text 4096, efficientnet-lite0 image 1280)
    """
    place = data.cache if cache is None else Path(cache)
    texts = [pair.text for pair in data.dataset.pairs if pair.text is not None]
    built = build_encoders(
        resolve_encoders(encoders, lambda: texts),
        pooling=pooling,
        max_length=max_length,
        truncation=truncation,
        precision=precision,
        device=device,
        tokens=tokens,
    )
    if not built:
        raise DataError("no encoder is named; give one at least, such as 'minilm'")
    stores: list[FeatureStore] = []
    lost: dict[str, str] = {}  # reasons by the digest of the image
    for encoder in built:
        store = open_store(place, encoder)
        found = extract(
            contents(replace(data.dataset, pairs=data.pairs), encoder.modality),
            encoder,
            store,
            device=device,
            batch_size=batch_size,
            workers=workers,
        )
        stores.append(store)
        lost |= _lost_images(data, encoder, found)
    if lost:
        mark_unreadable(image_facts_file(data.cache), lost)
    return load_views(data.dataset, _without_images(data, lost), stores)


def cross_val_proba(
    estimator: Any,
    X: Any,  # noqa: N803
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    cv: int = 5,
    repeats: int = 1,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Out-of-fold probabilities: each row's come from models that did not see the row.

    Folds are stratified and keep the rows of a group together; the same seed deals the same folds
    to every estimator, so that `compare` tests like against like. Models of a `FusionClassifier`
    are trained side by side, which takes a fraction of the time of one after another.

    Args:
        estimator: A FusionClassifier, or any classifier of scikit-learn's kind with
            `predict_proba`; it is cloned.
        X: N rows: whatever the estimator takes. Other estimators see `Views` as one array.
        y: Labels, shape (N,).
        groups: Shape (N,); rows that belong together, such as duplicates.
        cv: Folds.
        repeats: How often the folds are dealt anew.
        seed: Of the folds.

    Returns:
        Shape (N, C), columns in the sorted order of the labels; (R, N, C) with repeats above 1.

    Raises:
        DataError: X, y and groups do not agree, or a class has fewer groups than there are folds.

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> y = np.where(X[:, 0] > 0, "yes", "no")
    >>> p = cross_val_proba(LogisticRegression(), X, y, cv=4)
    >>> p.shape, bool((p.argmax(axis=1) == (y == "yes")).mean() > 0.9)
    ((100, 2), True)
    """
    from pairfuse.fusion.classifier import FusionClassifier
    from pairfuse.study.folds import make_folds

    classes, targets = np.unique(np.asarray(y), return_inverse=True)
    rows = len(targets)
    given = np.arange(rows) if groups is None else np.asarray(groups)
    if given.shape != (rows,):
        raise DataError(f"groups has shape {given.shape}; give one for each of {rows} labels")
    is_fusion = isinstance(estimator, FusionClassifier)
    table = _Rows(
        targets=targets.astype(np.int64),
        groups=np.unique(given, return_inverse=True)[1].astype(np.int64),
        labels=tuple(str(label) for label in classes.tolist()),
    )
    folds = make_folds(
        table.targets,
        table.groups,
        table.labels,
        folds=cv,
        n_models=estimator.n_models if is_fusion else 1,
        seed=seed,
        repeats=repeats,
    )
    if is_fusion:
        found = _fusion_proba(estimator, X, table, folds)
    else:
        found = _plain_proba(estimator, X, np.asarray(y), classes, folds)
    return found[0] if repeats == 1 else found


@dataclass(frozen=True, repr=False)
class AblationStudy:
    """What `ablate` found; print it to read it.

    Attributes:
        data: The labelled pairs.
        table: Their features, targets and groups.
        evidence: All that the report shows.
        arms: Each arm with its out-of-fold probabilities (R, N, C).
    """

    data: Pairs
    table: Table
    evidence: Evidence
    arms: tuple[Arm, ...]
    _prepared: Sequence[ScaledRowSet]
    _search: SearchSpec

    @property
    def verdict(self) -> Verdict:
        """Does the image help, and which arm to use."""
        return self.evidence.verdict

    @property
    def scores(self) -> dict[str, Scores]:
        """Scores by the name of the arm."""
        return {arm.name: arm.scores for arm in self.evidence.arms}

    def __str__(self) -> str:
        from pairfuse.study.evidence import evidence_lines

        return "\n".join(evidence_lines(self.evidence))

    def __repr__(self) -> str:
        return f"AblationStudy({', '.join(self.scores)}: {self.verdict.headline})"

    def _repr_html_(self) -> str:
        from html import escape

        from pairfuse.stats.bootstrap import in_words

        head = "".join(f"<th>{name}</th>" for name in ("arm", "views", "macro-F1", "accuracy"))
        rows = "".join(
            f"<tr><td>{escape(arm.name)}</td><td>{escape(' '.join(arm.views))}</td>"
            f"<td>{in_words(arm.scores.macro_f1)}</td><td>{in_words(arm.scores.accuracy)}</td></tr>"
            for arm in self.evidence.arms
        )
        return f"<p>{escape(self.verdict.words)}</p><table><tr>{head}</tr>{rows}</table>"

    def to_frame(self) -> Any:
        """The arms as a pandas DataFrame, one row each.

        Raises:
            PairfuseError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError as error:
            raise PairfuseError("to_frame needs pandas; run `pip install pandas`") from error
        return pandas.DataFrame(
            [
                {
                    "arm": arm.name,
                    "views": " ".join(arm.views),
                    "macro_f1": arm.scores.macro_f1.value,
                    "low": arm.scores.macro_f1.low,
                    "high": arm.scores.macro_f1.high,
                    "accuracy": arm.scores.accuracy.value,
                    "auroc": arm.scores.auroc.value,
                    "log_loss": arm.scores.log_loss.value,
                    "ece": arm.scores.ece.value,
                }
                for arm in self.evidence.arms
            ]
        )

    def to_html(self, path: str | Path) -> None:
        """Write the report: one page that needs no network and runs no script."""
        from pairfuse.report.inputs import ReportInput
        from pairfuse.report.page import write_report
        from pairfuse.study.ablation import FUSED
        from pairfuse.study.tuning import read_trials

        trials, importances = read_trials(self.table, self._prepared, self._search, name=FUSED)
        [fit] = [arm.fit for arm in self.arms if arm.name == FUSED]
        found = ReportInput(
            title=self.data.dataset.root.stem,
            evidence=self.evidence,
            predictions={arm.name: self._predictions(arm) for arm in self.arms},
            pairs={pair.guid: pair for pair in self.data.pairs},
            history=list(fit.histories) if fit else [],
            trials=trials,
            metric=METRIC_NAMES[self.table.metric],
            importances=importances,
            data_check=summary(profile(self.data.dataset)),
            provenance={"Versions": _versions(), "Design": _design(self.evidence)},
        )
        write_report(found, Path(path))

    def _predictions(self, arm: Arm) -> Any:
        from pairfuse.stats.predictions import Predictions

        labels, mean = self.table.labels, arm.probabilities.mean(axis=0, dtype=np.float64)
        return Predictions(
            name=arm.name,
            guids=self.table.guids,
            truth=tuple(labels[target] for target in self.table.targets.tolist()),
            y_pred=tuple(labels[target] for target in mean.argmax(axis=1).tolist()),
            labels=labels,
            probabilities=mean,
            groups=tuple(str(group) for group in self.table.groups.tolist()),
        )


def ablate(
    data: Pairs,
    X: Views,  # noqa: N803
    *,
    trials: int = 20,
    cv: int = 5,
    repeats: int = 2,
    n_models: int = 2,
    metric: str = "",
    heads: Sequence[str] = (),
    ensemble: Ensembling = "mixture",
    nested: bool = False,
    coverage: float = 0.9,
    recipe: Recipe | None = None,
    encoders: Sequence[str] = (),
    seed: int = 0,
    device: str = "auto",
    storage: str = "",
) -> AblationStudy:
    """Compare fused, text-only and image-only models on the same folds, each tuned as long.

    Args:
        data: The labelled pairs.
        X: Their features, of text and of images; `extract_features` gives them.
        trials: Recipes tried for each arm. Trials of an earlier call on the same rows count.
        cv: Folds.
        repeats: How often the folds are dealt.
        n_models: Models for each fold.
        metric: What the search maximises; none is what the data set's publishers score by.
        heads: Heads to search; none is the usual ones.
        ensemble: "mixture" selects among the best heads and the baselines, "average" joins the
            heads alone.
        nested: Search inside each fold, so that no reported score was searched for.
        coverage: How often a conformal prediction set is to hold the true label.
        recipe: Where the search begins; None takes the defaults.
        encoders: Those whose cost is measured, each in a process of its own, named as for
            `extract_features`; none leaves costs out.
        seed: Same seed, same result.
        device: A torch device's name, or "auto".
        storage: Where trials are kept; none is below the cache.

    Raises:
        DataError: X is not of these pairs, or a class has fewer groups than there are folds.
        ConfigError: A setting is out of range, or X lacks a modality.

    >>> data = load_dataset("data/demo")
    >>> X = extract_features(data, ["ngram", "efficientnet-lite0"])
    >>> study = ablate(data, X, trials=1, cv=2, repeats=1, n_models=1)
    >>> list(study.scores)[:6]
    ['fused', 'text-only', 'image-only', 'linear-text', 'linear-image', 'linear-fused']
    >>> study.scores["fused"].rows
    60
    """
    from pairfuse.fusion.fitting import prepare_rows
    from pairfuse.study.ablation import run_arms
    from pairfuse.study.crossfit import FoldedTable
    from pairfuse.study.evidence import gather
    from pairfuse.study.folds import make_folds
    from pairfuse.study.nested import prepare_inner
    from pairfuse.study.search_space import SEARCHED_HEADS
    from pairfuse.study.tuning import SearchSpec

    study = StudyConfig(
        folds=cv,
        repeats=repeats,
        n_models=n_models,
        n_trials=trials,
        metric=metric,
        heads=tuple(heads),
        ensemble=ensemble,
        nested=nested,
        coverage=coverage,
        seed=seed,
    )
    table = _labelled_table(data, X, metric)
    folds = make_folds(
        table.targets,
        table.groups,
        table.labels,
        folds=cv,
        n_models=n_models,
        seed=seed,
        repeats=repeats,
    )
    prepared = prepare_rows(X, folds, seed=seed)
    inner = prepare_inner(table, prepared, seed=seed) if nested else []
    run = data.cache / "runs" / data.dataset.root.stem
    search = SearchSpec(
        base=recipe or Recipe(),
        storage=storage or str(run / "study.log"),
        n_trials=trials,
        seed=seed,
        device=str(resolve_device(device)),
        heads=tuple(heads) or SEARCHED_HEADS,
    )
    arms = run_arms(
        FoldedTable(table, prepared, inner), search, nested=nested, ensemble=study.ensemble
    )
    costs = _encoder_costs(data, X, encoders, device=search.device)
    texts = [pair.text for pair in data.pairs]
    evidence = gather(arms, table, prepared, study=study, texts=texts, encoders=costs)
    return AblationStudy(data, table, evidence, tuple(arms), prepared, search)


@dataclass(frozen=True)
class _Rows:
    """What folds are made of."""

    targets: NDArray[np.int64]
    groups: NDArray[np.int64]
    labels: tuple[str, ...]


def _fusion_proba(
    estimator: FusionClassifier,
    X: Any,  # noqa: N803
    rows: _Rows,
    folds: Sequence[Any],
) -> NDArray[np.float32]:
    """Shape (R, N, C); all folds' models are trained in one stack."""
    from sklearn.base import clone

    from pairfuse.fusion.fitting import prepare_rows
    from pairfuse.study.crossfit import Table, cross_fit

    copy: FusionClassifier = clone(estimator)
    views = copy.read_views(X, reset=True)
    if len(views) != len(rows.targets):
        raise DataError(f"{len(views)} rows but {len(rows.targets)} labels")
    table = Table(
        views=views,
        targets=rows.targets,
        groups=rows.groups,
        guids=tuple(str(row) for row in range(len(views))),
        labels=rows.labels,
    )
    prepared = prepare_rows(views, folds, seed=copy.seed)
    [fit] = cross_fit(table, prepared, [copy.recipe], seed=copy.seed, device=copy.device)
    return fit.probabilities


def _plain_proba(
    estimator: Any,
    X: Any,  # noqa: N803
    y: NDArray[Any],
    classes: NDArray[Any],
    folds: Sequence[Any],
) -> NDArray[np.float32]:
    """Shape (R, N, C); the rows that a fold does not hold out are all trained on."""
    from sklearn.base import clone
    from sklearn.utils import _safe_indexing
    from sklearn.utils.validation import _num_samples

    if not hasattr(estimator, "predict_proba"):
        raise DataError(
            f"{type(estimator).__name__} has no predict_proba; wrap it in scikit-learn's "
            "CalibratedClassifierCV, or compare its labels"
        )
    if _num_samples(X) != len(y):
        raise DataError(f"{_num_samples(X)} rows but {len(y)} labels")
    out = np.zeros((1 + max(part.repeat for part in folds), len(y), len(classes)), np.float32)
    for part in folds:
        inside = np.union1d(part.train, part.val)
        model = clone(estimator).fit(_safe_indexing(X, inside), y[inside])
        columns = np.searchsorted(classes, model.classes_)
        out[part.repeat, part.held_out[:, None], columns] = model.predict_proba(
            _safe_indexing(X, part.held_out)
        )
    return out


def _labelled_table(data: Pairs, X: Views, metric: str) -> Table:  # noqa: N803
    from pairfuse.study.crossfit import Table

    answers = data.dataset.answers
    if len(X) != len(data):
        raise DataError(f"X has {len(X)} rows, and the data {len(data)} labelled pairs")
    metric = metric or DEFAULT_METRIC[data.dataset.reader]
    if metric == "vqa_accuracy" and not answers:
        raise DataError("metric vqa_accuracy needs several annotators' answers to each question")
    if unused := sorted(set(data.labels) - set(data.y.tolist())):
        raise DataError(f"label {unused[0]!r} has no training pair; leave it out of the labels")
    return Table(
        views=X,
        targets=targets_of(data.pairs, data.labels),
        groups=data.groups,
        guids=data.guids,
        labels=data.labels,
        metric=metric,
        soft_labels=soft_labels_of(data.pairs, data.labels, answers) if answers else None,
    )


def _encoder_costs(
    data: Pairs,
    X: Views,  # noqa: N803
    encoders: Sequence[str],
    *,
    device: str,
) -> list[EncoderCost]:
    """What each view's encoder takes; a note where it was not measured."""
    from pairfuse.study.cost import EncoderCost, measure_encoders

    built = [each for each in build_encoders(encoders, device=device) if each.name in X.dims]
    dataset = replace(data.dataset, pairs=data.pairs)
    samples = {each.modality: list(contents(dataset, each.modality).values()) for each in built}
    found = {cost.name: cost for cost in measure_encoders(built, samples, device=device)}
    note = "not measured"
    return [
        found.get(view) or EncoderCost(view, X.modality[view], dim, device, note=note)
        for view, dim in X.dims.items()
    ]


def _lost_images(data: Pairs, encoder: Encoder, found: Extraction) -> dict[str, str]:
    """Reasons by the digest of the image, whatever the key of the failed row is made of."""
    if encoder.modality == "text" or not found.failed:
        return {}
    out = {}
    for pair in data.pairs:
        key, image = (data.dataset.key(pair, kind) for kind in (encoder.modality, "image"))
        if key is not None and image is not None and key.hex() in found.failed:
            out[image.hex()] = found.failed[key.hex()]
            log.warning("%s: the image of pair %s %s", encoder.name, pair.guid, out[image.hex()])
    return out


def _without_images(data: Pairs, lost: Mapping[str, str]) -> list[Pair]:
    """The pairs, those whose image is lost without it."""
    keys = [data.dataset.key(pair, "image") for pair in data.pairs]
    return [
        replace(pair, image=None) if key is not None and key.hex() in lost else pair
        for pair, key in zip(data.pairs, keys, strict=True)
    ]


def _versions() -> str:
    found = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    return "\n".join([f"python {platform.python_version()}", *found])


def _design(evidence: Evidence) -> str:
    design = evidence.design
    return "\n".join(f"{name} {value}" for name, value in vars(design).items())
