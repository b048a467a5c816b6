"""FusionClassifier: the same heads and training behind scikit-learn's estimator interface."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from pairfuse.arrays import Floats, Ints
from pairfuse.data.pairs import Modality
from pairfuse.errors import CheckpointError, ConfigError, DataError, shown
from pairfuse.features.views import Views
from pairfuse.files import write_json
from pairfuse.fusion.checkpoint import (
    Checkpoint,
    drop_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from pairfuse.fusion.ensemble import Ensemble, class_prior, equal_weights
from pairfuse.fusion.fitting import RowSet, fit_members, prepare_rows
from pairfuse.recipe import Balance, Recipe
from pairfuse.stats.calibration import apply_temperature

#: The view that one array is.
ONE_VIEW = "x"
#: What a saved classifier has beside its checkpoint: parameters, classes, names of columns.
DESCRIPTION = "classifier.json"
#: Weights that are no whole numbers become so many copies of a row of mean weight; whole numbers
#: are taken as they are up to so many copies on average.
COPIES, MOST_COPIES = 4, 100
#: As many models as a study may train on a fold.
MAX_MODELS = 100


class FusionClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Neural fusion of views, fitted with early stopping.

    X is a `Views`, a dict of arrays `{view: (N, D)}`, one array (N, D), or a pandas DataFrame; the
    latter two are one view named "x", or those that `view_dims` cuts them into. What is fitted does
    not depend on the order of the rows.

    Args:
        head, hidden_dim, dropout, lr, weight_decay, label_smoothing, balance, balance_strength,
        n_components, whitening, views, epochs, patience, batch_size, grad_accumulation_steps,
        warmup_ratio, max_grad_norm, modality_dropout, monitor: As in `Recipe`, whose defaults they
            have.
        view_dims: `{view: D}` of the views that lie side by side in one array, from left to right.
        modality: `{view: "text" | "image" | "joint"}`, which the head `late` needs; text if not
            named. A `Views` knows its own.
        n_models: Models, each with its own validation rows, whose probabilities are averaged.
        val_share: Share of the rows given to `fit` that decide when training stops.
        random_state: Same number, same model.
        device: A torch device's name.

    Attributes:
        classes_: Labels in the order of the columns of `predict_proba`.
        n_features_in_: Columns of all views.
        feature_names_in_: Names of a DataFrame's columns, where X was one with names.
        ensemble_: The fitted models.

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> X = {"words": random.normal(size=(200, 4)), "look": random.normal(size=(200, 3))}
    >>> y = np.where(X["words"][:, 0] > 0, "yes", "no")
    >>> clf = FusionClassifier(head="gated", epochs=8, lr=0.02).fit(X, y)
    >>> clf.score(X, y) > 0.8
    True
    >>> clf.predict_proba(X).shape, clf.classes_.tolist(), clf.n_features_in_
    ((200, 2), ['no', 'yes'], 7)
    """

    def __init__(
        self,
        *,
        head: str = Recipe.head,
        hidden_dim: int = Recipe.hidden_dim,
        dropout: float = Recipe.dropout,
        lr: float = Recipe.lr,
        weight_decay: float = Recipe.weight_decay,
        label_smoothing: float = Recipe.label_smoothing,
        balance: Balance = Recipe.balance,
        balance_strength: float = Recipe.balance_strength,
        n_components: int = Recipe.n_components,
        whitening: float = Recipe.whitening,
        views: Sequence[str] = Recipe.views,
        epochs: int = Recipe.epochs,
        patience: int = Recipe.patience,
        batch_size: int = Recipe.batch_size,
        grad_accumulation_steps: int = Recipe.grad_accumulation_steps,
        warmup_ratio: float = Recipe.warmup_ratio,
        max_grad_norm: float = Recipe.max_grad_norm,
        modality_dropout: float = Recipe.modality_dropout,
        monitor: Literal["macro_f1", "loss"] = Recipe.monitor,
        view_dims: Mapping[str, int] | None = None,
        modality: Mapping[str, Modality] | None = None,
        n_models: int = 1,
        val_share: float = 0.125,
        random_state: Any = 0,
        device: str = "cpu",
    ) -> None:
        self.head = head
        self.hidden_dim = hidden_dim
        self.dropout = dropout
        self.lr = lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.balance = balance
        self.balance_strength = balance_strength
        self.n_components = n_components
        self.whitening = whitening
        self.views = views
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.grad_accumulation_steps = grad_accumulation_steps
        self.warmup_ratio = warmup_ratio
        self.max_grad_norm = max_grad_norm
        self.modality_dropout = modality_dropout
        self.monitor = monitor
        self.view_dims = view_dims
        self.modality = modality
        self.n_models = n_models
        self.val_share = val_share
        self.random_state = random_state
        self.device = device

    @property
    def recipe(self) -> Recipe:
        """The parameters of head and training as one value.

        Raises:
            ConfigError: One of them is out of its bounds.
        """
        values = {part.name: getattr(self, part.name) for part in fields(Recipe)}
        return Recipe(**{**values, "views": tuple(self.views)})

    @property
    def seed(self) -> int:
        """A whole number of `random_state`."""
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        present: Any = None,
    ) -> FusionClassifier:
        """Fit on N rows.

        Args:
            X: See the class.
            y: Labels of any kind that can be sorted, shape (N,).
            sample_weight: Shape (N,). A whole number counts a row that often, 0 leaves it out;
                others are rounded to so many copies, four for a row of mean weight.
            groups: Shape (N,); rows of one group are never trained on and validated on at once.
                    Without it, rows that are equal are a group.
            present: `{view: mask (N,)}`, or one mask where X is one view; False where the row is
                missing. A `Views` knows its own.

        Raises:
            DataError: X, y and the rest do not agree or hold what cannot be used.
            ConfigError: A parameter is out of its bounds, or names an unknown head or view.
        """
        recipe = self.recipe
        self._check_params()
        if y is None:
            raise DataError("FusionClassifier requires y to be passed, but the target y is None")
        views = self.read_views(X, present, reset=True)
        with _data_errors():
            y = column_or_1d(y, warn=True)
            _check_labelled(y)
            check_classification_targets(y)
        if len(y) != len(views):
            raise DataError(f"{len(views)} rows but {len(y)} labels")
        self.classes_, targets = np.unique(y, return_inverse=True)
        copies = _count_copies(sample_weight, len(views))
        digests = _digests(views)
        order = np.lexsort((targets, digests))
        rows = np.repeat(order, copies[order])
        self._fit(
            views.rows(rows),
            targets[rows].astype(np.int64),
            _row_groups(groups, digests, rows, targets[rows]),
            recipe,
        )
        return self

    def _check_params(self) -> None:
        """Refuse what the recipe does not check."""
        count: Any = self.n_models
        share: Any = self.val_share
        if not isinstance(count, int | np.integer) or not 1 <= count <= MAX_MODELS:
            raise ConfigError(f"n_models is {shown(count)}; use 1 to {MAX_MODELS}")
        if not isinstance(share, Real) or not 0 < float(share) < 1:
            raise ConfigError(f"val_share is {shown(share)}; use a share above 0 and below 1")

    def predict_proba(self, X: Any, *, present: Any = None) -> Floats:  # noqa: N803
        """Probabilities, shape (N, C), in the order of `classes_`; a row without any view gets the
        class frequencies.

        Raises:
            DataError: X has other views than in `fit`, or holds what cannot be used.
        """
        check_is_fitted(self, "ensemble_")
        views = self.read_views(X, present)
        dims = self.ensemble_.dims
        if {view: views.dims.get(view) for view in dims} != dict(dims):
            raise DataError(f"X has the views {views.dims}, but fit was given {dict(dims)}")
        raw = self.ensemble_.predict_proba(views)
        if self.temperature_ == 1:
            return raw
        seen = np.any([views.present[view] for view in dims], axis=0)  # (N,)
        return np.where(seen[:, None], apply_temperature(raw, self.temperature_), raw)

    def predict(self, X: Any, *, present: Any = None) -> NDArray[Any]:  # noqa: N803
        """The most probable label of each row."""
        y_pred = self.predict_proba(X, present=present).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[y_pred]
        return chosen

    def save(self, folder: str | Path) -> None:
        """Write the fitted models and the parameters into a folder, as JSON and safetensors.

        Raises:
            NotFittedError: There is nothing to save.
        """
        check_is_fitted(self, "ensemble_")
        folder, dims = Path(folder), self.ensemble_.dims
        params = self.get_params(deep=False)
        if not isinstance(self.random_state, int):
            params["random_state"] = None
        names = getattr(self, "feature_names_in_", None)
        drop_checkpoint(folder)
        write_json(
            folder / DESCRIPTION,
            {
                "params": params | {"views": list(self.views)},
                "classes": self.classes_.tolist(),
                "feature_names": None if names is None else names.tolist(),
            },
        )
        save_checkpoint(
            folder,
            Checkpoint(
                ensemble=self.ensemble_,
                fingerprints=dict.fromkeys(dims, ""),
                encoder_options={"encoders": list(dims)},
                scores={},
                temperature=self.temperature_,
            ),
        )

    @classmethod
    def load(cls, folder: str | Path) -> FusionClassifier:
        """Read what `save` wrote, or a model that `pairfuse train` left in a run folder.

        Raises:
            CheckpointError: There is none, or it is damaged.
        """
        folder = Path(folder)
        checkpoint = load_checkpoint(folder)
        ensemble = checkpoint.ensemble
        found = _read_description(folder / DESCRIPTION, ensemble)
        try:
            out = cls(**found["params"])
            out.classes_ = np.array(found["classes"])
            if found["feature_names"] is not None:
                out.feature_names_in_ = np.array(found["feature_names"], dtype=object)
        except (LookupError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder / DESCRIPTION} does not describe a model") from error
        if tuple(str(label) for label in out.classes_.tolist()) != ensemble.labels:
            raise CheckpointError(f"{folder / DESCRIPTION} has other classes than the model")
        out.ensemble_, out.temperature_ = ensemble, checkpoint.temperature
        out.n_features_in_ = sum(ensemble.dims.values())
        return out

    def read_views(self, X: Any, present: Any = None, *, reset: bool = False) -> Views:  # noqa: N803
        """X as a table of views; with `reset` its columns are those that later ones must have.

        Raises:
            DataError: It holds what cannot be used, or with `present` what is present already.
        """
        if isinstance(X, Views):
            if present is not None:
                raise DataError("Views know which rows are present; leave `present` out")
            X.check_finite()
            views = X
        elif isinstance(X, Mapping) and not issparse(X):  # one sparse format is a dict
            with _data_errors():
                arrays = {view: check_array(array, **_CHECKS) for view, array in X.items()}
            views = Views.of_arrays(arrays, self.modality, present)
        else:
            fewest = 2 if reset else 1
            with _data_errors():
                array = validate_data(self, X, reset=reset, ensure_min_samples=fewest, **_CHECKS)
            arrays = self._cut(array)
            mask = (
                present
                if present is None or isinstance(present, Mapping)
                else dict.fromkeys(arrays, present)
            )
            return Views.of_arrays(arrays, self.modality, mask)
        if reset:
            self.n_features_in_ = views.shape[1]
            self.__dict__.pop("feature_names_in_", None)
        return views

    def _cut(self, array: Floats) -> dict[str, Floats]:
        """The views that lie side by side in one array."""
        dims = self.view_dims or {ONE_VIEW: array.shape[1]}
        if sum(dims.values()) != array.shape[1]:
            raise DataError(
                f"X has {array.shape[1]} columns, and view_dims {dict(dims)} are "
                f"{sum(dims.values())}"
            )
        ends = np.cumsum(list(dims.values()))
        return dict(zip(dims, np.split(array, ends[:-1], axis=1), strict=True))

    def _fit(self, views: Views, targets: Ints, groups: Ints, recipe: Recipe) -> None:
        """Train on rows that are in an order of their own."""
        seed, classes = self.seed, len(self.classes_)
        if classes < 2 or np.bincount(targets, minlength=classes).min() < 2:
            raise DataError("each of at least two classes needs two rows or more")
        prepared = prepare_rows(views, self._row_sets(targets, groups, seed), seed=seed)
        [members] = fit_members(
            views,
            targets,
            prepared,
            [recipe],
            num_classes=classes,
            seed=seed,
            device=self.device,
        )
        self.temperature_ = 1.0
        self.ensemble_ = Ensemble(
            members=tuple(members),
            weights=equal_weights(len(members)),
            labels=tuple(str(label) for label in self.classes_.tolist()),
            prior=class_prior(targets, classes),
            modality=dict(views.modality),
            dims=views.dims,
        )

    def _row_sets(self, targets: Ints, groups: Ints, seed: int) -> list[RowSet]:
        """A validation set for each model, stratified; at least one group of each class."""
        classes = len(self.classes_)
        of_groups = _group_classes(targets, groups)
        if _fewest_groups(targets, groups) < 2:
            raise DataError(
                "a class has rows of one group alone; each needs two groups or more, one to train "
                "on and one to validate on"
            )
        count = min(max(classes, round(self.val_share * len(of_groups))), len(of_groups) - classes)
        splitter = StratifiedShuffleSplit(self.n_models, test_size=count, random_state=seed)
        sides = [np.isin(groups, val) for _, val in splitter.split(of_groups, of_groups)]
        none = np.empty(0, dtype=np.int64)
        return [RowSet(np.flatnonzero(~is_val), np.flatnonzero(is_val), none) for is_val in sides]


#: How arrays are looked at: finite numbers are asked for later, of rows that are present.
_CHECKS: dict[str, Any] = {"dtype": np.float32, "ensure_all_finite": False}


@contextmanager
def _data_errors() -> Iterator[None]:
    """What scikit-learn finds wrong with a call's arrays is a DataError, in its own words."""
    try:
        with np.errstate(over="ignore"):  # a number too large for float32 is infinite: refused
            yield
    except ValueError as error:
        raise DataError(str(error)) from error


def _check_labelled(y: NDArray[Any]) -> None:
    """Refuse rows without a label: None, or NaN among words (among numbers it is no class)."""
    if y.dtype != object:
        return
    bare = [row for row, label in enumerate(y) if label is None or label != label]
    if bare:
        raise DataError(f"y has no label in {len(bare)} of {len(y)} rows, first in row {bare[0]}")


def _count_copies(sample_weight: Any, rows: int) -> Ints:
    """How often each row counts, shape (N,)."""
    if sample_weight is None:
        return np.ones(rows, dtype=np.int64)
    with _data_errors():
        weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (rows,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise DataError(
            f"sample_weight has shape {weights.shape}; give {rows} finite numbers, none below 0"
        )
    if not weights.any():
        raise DataError("sample_weight is zero for every row, so that no class is left")
    if (weights == np.floor(weights)).all() and weights.sum() <= MOST_COPIES * rows:
        return weights.astype(np.int64)
    copies = np.rint(weights / weights.mean() * COPIES).astype(np.int64)
    return np.asarray(copies // np.gcd.reduce(copies), dtype=np.int64)


def _digests(views: Views) -> NDArray[Any]:
    """A digest of each row's content, shape (N,)."""
    names = sorted(views.features)
    return np.array(
        [
            hashlib.blake2b(
                b"".join(
                    views.features[name][row].tobytes() + views.present[name][row].tobytes()
                    for name in names
                ),
                digest_size=16,
            ).hexdigest()
            for row in range(len(views))
        ]
    )


def _row_groups(groups: Any, digests: NDArray[Any], rows: Ints, targets: Ints) -> Ints:
    """Numbers of the groups of these rows, as given.

    Where none are given, equal rows are a group, unless a class then has too few groups.
    """
    own = digests if groups is None else np.asarray(groups)
    if own.shape != digests.shape:
        raise DataError(f"groups has shape {own.shape}; give one for each of {len(digests)} rows")
    found = np.asarray(np.unique(own[rows], return_inverse=True)[1], dtype=np.int64)
    if groups is None and _fewest_groups(targets, found) < 2:
        return np.arange(len(rows), dtype=np.int64)
    return found


def _fewest_groups(targets: Ints, groups: Ints) -> int:
    """Groups of the class that has fewest; see `_group_classes`."""
    counts = np.bincount(_group_classes(targets, groups), minlength=int(targets.max(initial=0)) + 1)
    return int(counts[np.unique(targets)].min(initial=len(groups)))


def _group_classes(targets: Ints, groups: Ints) -> Ints:
    """A class of each group, shape (G,), by which groups are stratified.

    A group with rows of several classes stands for the one of them that has fewest groups so far.
    """
    found = np.unique(np.stack([groups, targets]), axis=1)  # (2, K), by group
    first = np.flatnonzero(np.diff(found[0], prepend=-1))
    sizes = np.diff(np.append(first, found.shape[1]))
    out: Ints = found[1][first]
    counts = np.bincount(out[sizes == 1], minlength=int(targets.max(initial=0)) + 1)
    for group in np.flatnonzero(sizes > 1).tolist():
        own = found[1][first[group] : first[group] + sizes[group]]
        out[group] = own[counts[own].argmin()]
        counts[out[group]] += 1
    return out


def _read_description(path: Path, ensemble: Ensemble) -> Mapping[str, Any]:
    """What `save` wrote beside the checkpoint, or what stands for it."""
    if not path.is_file():
        recipe = asdict(ensemble.heads[0].model.recipe if ensemble.heads else Recipe())
        return {"params": recipe, "classes": list(ensemble.labels), "feature_names": None}
    try:
        found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
        return {name: found[name] for name in ("params", "classes", "feature_names")}
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); save the model again") from error
