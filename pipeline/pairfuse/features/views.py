"""Table of views: features of all pairs side by side, aligned by content key, never by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import EllipsisType
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.data.pairs import Dataset, Modality, Pair
from pairfuse.errors import DataError, StoreError, shown
from pairfuse.features.store import FeatureStore
from pairfuse.features.texts import Texts
from pairfuse.features.token_views import TokenRows, open_tokens


@dataclass(frozen=True, repr=False)
class Views:
    """Features of N pairs: `{view: (N, D)}`; where a modality is missing the row is zero and
    `present` says so.

    `tokens` are the sequences of the views whose encoder keeps them; they stay on disk. `texts` are
    the raw texts, for models that count words; whoever reads features alone gives none. To
    scikit-learn it is one table of N rows: it has a `shape`, gives the rows that it is indexed by,
    and as an array is all views side by side.

    >>> import numpy as np
    >>> X = Views.of_arrays({"words": np.ones((3, 4)), "look": np.ones((3, 2))}, {"look": "image"})
    >>> X
    Views(3 rows: words text 4, look image 2)
    >>> X.shape, X[[0, 2]].shape, X.only(X.of("text")).shape, np.asarray(X).shape
    ((3, 6), (2, 6), (3, 4), (3, 6))
    """

    features: Mapping[str, Floats]
    present: Mapping[str, Bools]
    modality: Mapping[str, Modality]
    tokens: Mapping[str, TokenRows] = field(default_factory=dict)
    texts: Texts | None = None

    @classmethod
    def of_arrays(
        cls,
        arrays: Mapping[str, Any],
        modality: Mapping[str, Modality] | None = None,
        present: Mapping[str, Any] | None = None,
        *,
        texts: Sequence[str | None] | None = None,
    ) -> Views:
        """Make a table of arrays that lie in memory.

        Args:
            arrays: For each view an array of shape (N, D).
            modality: Of each view; text if not named.
            present: For each view that has missing rows a mask of shape (N,), False where one is.
            texts: The N raw texts, None where one is missing.

        Raises:
            DataError: The shapes do not agree, or a row that is present holds no finite number.
        """
        features = {view: np.asarray(values, dtype=np.float32) for view, values in arrays.items()}
        shapes = ", ".join(f"{view} {values.shape}" for view, values in features.items())
        if not features:
            raise DataError("there are no features; at least one view is needed")
        if any(values.ndim != 2 for values in features.values()):
            raise DataError(f"each view must have shape (N, D); found {shapes}")
        rows = {len(values) for values in features.values()}
        if len(rows) > 1:
            raise DataError(f"views need the same number of rows; found {shapes}")
        if strange := sorted({*(present or {}), *(modality or {})} - features.keys()):
            raise DataError(f"there is no view {strange[0]!r}, but {', '.join(features)}")
        for view, kind in (modality or {}).items():
            if kind not in get_args(Modality):
                known = ", ".join(get_args(Modality))
                raise DataError(f"view {view!r} is of modality {shown(kind)}; use {known}")
        [count] = rows
        masks = {view: _mask(view, count, (present or {}).get(view)) for view in features}
        for view, mask in masks.items():
            if not mask.all():
                features[view] = np.where(mask[:, None], features[view], np.float32(0))
        if texts is not None and len(texts) != count:
            raise DataError(f"views of {count} rows need as many texts; found {len(texts)}")
        views = cls(
            features,
            masks,
            {view: (modality or {}).get(view, "text") for view in features},
            texts=None if texts is None else Texts.of(texts),
        )
        views.check_finite()
        return views

    def check_finite(self) -> None:
        """Refuse NaN and infinity.

        Raises:
            DataError: Names the view and the first such row.
        """
        for view, values in self.features.items():
            if np.isfinite(values.sum(dtype=np.float64)):
                continue
            rows, columns = np.nonzero(~np.isfinite(values))
            if len(rows):
                found = "NaN" if np.isnan(values[rows[0], columns[0]]) else "infinity"
                raise DataError(
                    f"Input X contains {found}: view {view!r}, row {rows[0]}; "
                    "a row that is missing is said with `present`"
                )

    def __len__(self) -> int:
        if not self.features and self.texts is not None:
            return len(self.texts)  # what reads raw texts alone needs no encoder
        return len(next(iter(self.features.values())))

    def __repr__(self) -> str:
        parts = (f"{view} {self.modality[view]} {dim}" for view, dim in self.dims.items())
        return f"Views({len(self)} rows: {', '.join(parts)})"

    def __getitem__(self, index: Any) -> Views:
        """The chosen rows of every view, by numbers, a mask or a slice."""
        if isinstance(index, tuple) and len(index) == 2 and isinstance(index[1], EllipsisType):
            index = index[0]  # how scikit-learn indexes what has a shape
        if isinstance(index, tuple):
            raise DataError("rows of views are chosen by one index; use .only(names) for columns")
        return self.rows(np.atleast_1d(np.arange(len(self))[index]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All views side by side, shape (N, sum of D)."""
        joined = np.concatenate(list(self.features.values()), axis=1)
        return joined if dtype is None else joined.astype(dtype, copy=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns of all views."""
        return len(self), sum(self.dims.values())

    @property
    def token_dims(self) -> dict[str, int]:
        """Width of the tokens of each view that has some."""
        return {view: rows.dim for view, rows in self.tokens.items()}

    @property
    def dims(self) -> dict[str, int]:
        return {view: features.shape[1] for view, features in self.features.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of the rows of each view, with their tokens."""
        return {
            view: 4 * int(self.present[view].sum()) * dim
            + (self.tokens[view].size if view in self.tokens else 0)
            for view, dim in self.dims.items()
        }

    def only(self, names: Sequence[str]) -> Views:
        """The named views alone, with the texts."""
        return Views(
            {name: self.features[name] for name in names},
            {name: self.present[name] for name in names},
            {name: self.modality[name] for name in names},
            {name: self.tokens[name] for name in names if name in self.tokens},
            self.texts,
        )

    def rows(self, index: NDArray[np.integer] | Bools) -> Views:
        """The chosen rows of every view."""
        return Views(
            {name: values[index] for name, values in self.features.items()},
            {name: values[index] for name, values in self.present.items()},
            self.modality,
            {name: values.rows(index) for name, values in self.tokens.items()},
            None if self.texts is None else self.texts.rows(index),
        )

    def without_texts(self) -> Views:
        """The same rows, whose raw texts are missing; text views stay as they are."""
        return self if self.texts is None else replace(self, texts=self.texts.blank())

    def of(self, modality: Modality) -> list[str]:
        """Names of the views of one modality."""
        return [name for name, found in self.modality.items() if found == modality]


def _mask(view: str, rows: int, given: Any) -> Bools:
    if given is None:
        return np.ones(rows, dtype=bool)
    mask = np.asarray(given)
    if mask.shape != (rows,) or mask.dtype != bool:
        raise DataError(
            f"present of view {view!r} is {mask.dtype} of shape {mask.shape}; "
            f"give a mask of True and False of shape ({rows},)"
        )
    return np.asarray(mask, dtype=bool)


def load_views(dataset: Dataset, pairs: Sequence[Pair], stores: Sequence[FeatureStore]) -> Views:
    """Read the features of these pairs.

    Raises:
        StoreError: A store lacks a row, or a part of it is damaged.
    """
    features, present, modality, tokens = {}, {}, {}, {}
    for store in stores:
        kind = _modality(store)
        keys = [dataset.key(pair, kind) for pair in pairs]
        there = np.array([key is not None for key in keys], dtype=bool)
        found = store.read_view([key for key in keys if key is not None])
        rows = np.zeros((len(pairs), found.shape[1]), dtype=np.float32)
        rows[there] = found
        features[store.encoder], present[store.encoder], modality[store.encoder] = rows, there, kind
        if store.token_dim:
            tokens[store.encoder] = open_tokens(store, keys)
    texts = Texts.of([pair.text for pair in pairs])
    return Views(features, present, modality, tokens, texts)


def _modality(store: FeatureStore) -> Modality:
    found = [kind for kind in get_args(Modality) if kind == store.modality]
    if not found:
        raise StoreError(
            f"{store.folder.parent} is of modality {store.modality!r}, which is not known here; "
            "remove it with `pairfuse cache rm`, or bring the version that wrote it"
        )
    return cast(Modality, found[0])


def targets_of(pairs: Sequence[Pair], labels: Sequence[str]) -> Ints:
    """Index of each pair's label in the vocabulary, -1 where there is none, shape (N,)."""
    index = {label: target for target, label in enumerate(labels)}
    return np.array([-1 if p.label is None else index[p.label] for p in pairs], dtype=np.int64)
