"""Table of views: features of all pairs side by side, aligned by content key, never by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

import numpy as np
from numpy.typing import NDArray

from pairfuse.arrays import Bools, Floats, Ints
from pairfuse.data.pairs import Dataset, Modality, Pair
from pairfuse.errors import StoreError
from pairfuse.features.store import FeatureStore
from pairfuse.features.token_views import TokenRows, open_tokens


@dataclass(frozen=True)
class Views:
    """Features of N pairs: `{view: (N, D)}`; where a modality is missing the row is zero and
    `present` says so.

    `tokens` are the sequences of the views whose encoder keeps them; they stay on disk.
    """

    features: Mapping[str, Floats]
    present: Mapping[str, Bools]
    modality: Mapping[str, Modality]
    tokens: Mapping[str, TokenRows] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

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
        """The named views alone."""
        return Views(
            {name: self.features[name] for name in names},
            {name: self.present[name] for name in names},
            {name: self.modality[name] for name in names},
            {name: self.tokens[name] for name in names if name in self.tokens},
        )

    def rows(self, index: NDArray[np.integer] | Bools) -> Views:
        """The chosen rows of every view."""
        return Views(
            {name: values[index] for name, values in self.features.items()},
            {name: values[index] for name, values in self.present.items()},
            self.modality,
            {name: values.rows(index) for name, values in self.tokens.items()},
        )

    def of(self, modality: Modality) -> list[str]:
        """Names of the views of one modality."""
        return [name for name, found in self.modality.items() if found == modality]


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
    return Views(features, present, modality, tokens)


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
