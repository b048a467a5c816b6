"""Workspace: one command's data set, encoders, stores and table, each made once, when asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pairfuse.config import Config, config_toml
from pairfuse.console import log, note, progress
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.image_facts import note_bad
from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import Dataset, Pair
from pairfuse.data.readers import DEFAULT_METRIC
from pairfuse.data.soft_labels import soft_labels_of
from pairfuse.encoders import Encoder, build_encoders, fingerprint, resolve_device
from pairfuse.errors import ConfigError, DataError, StoreError
from pairfuse.features.extraction import Extraction, contents, extract
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.views import Views, load_views, targets_of
from pairfuse.files import write_json, write_text
from pairfuse.recipe import Recipe

if TYPE_CHECKING:
    from pairfuse.fusion.ensemble import Prepared, Rows
    from pairfuse.study.cost import EncoderCost
    from pairfuse.study.crossfit import CrossFit, InnerFolds, Table


@dataclass
class Workspace:
    """What the stages of one command share."""

    config: Config
    #: Fits of the whole table by their recipes, for the later stages of one command.
    fits: dict[tuple[Recipe, ...], CrossFit] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.config.run_folder

    @property
    def cache(self) -> Path:
        return Path(self.config.cache)

    @property
    def census(self) -> Path:
        return self.cache / "census" / "images.jsonl"

    @cached_property
    def dataset(self) -> Dataset:
        data = self.config.data
        return load_dataset(
            Path(data.root),
            reader=data.reader,
            columns=data.columns,
            encoding=data.encoding,
            labels=data.labels,
            strict=data.strict,
            census=self.census,
            max_pixels=data.max_pixels,
        )

    @cached_property
    def encoders(self) -> list[Encoder]:
        features = self.config.features
        return build_encoders(
            features.encoders,
            pooling=features.pooling,
            max_length=features.max_length,
            truncation=features.truncation,
            precision=features.precision,
            device=features.device,
            tokens=features.tokens,
        )

    @cached_property
    def device(self) -> str:
        return str(resolve_device(self.config.features.device))

    @cached_property
    def metric(self) -> str:
        """What a search maximises: as configured, else what the data set's publishers score by.

        Raises:
            ConfigError: It asks for several answers to each question, and there are none.
        """
        metric = self.config.study.metric or DEFAULT_METRIC[self.dataset.reader]
        if metric == "vqa_accuracy" and not self.dataset.answers:
            raise ConfigError(
                "metric vqa_accuracy needs several annotators' answers to each question, which "
                f"{self.config.data.root} does not have; use --metric macro_f1, accuracy or auroc"
            )
        return metric

    def extract(
        self, encoders: Sequence[Encoder], pairs: Sequence[Pair] | None = None
    ) -> list[tuple[FeatureStore, Extraction]]:
        """Bring every encoder's store up to these pairs, or to the whole data set."""
        return [self._extract(encoder, pairs) for encoder in encoders]

    def views(self, pairs: Sequence[Pair], encoders: Sequence[Encoder]) -> Views:
        """Features of these pairs; what the stores lack is extracted first."""
        stores = [store for store, _ in self.extract(encoders, pairs)]
        return load_views(self.dataset, pairs, stores)

    @cached_property
    def table(self) -> Table:
        """The labelled pairs; each with the groups that keep duplicates together."""
        from pairfuse.study.crossfit import Table

        pairs = self.dataset.split("train", "val")
        groups = duplicate_groups(self.dataset)
        labelled = np.array([pair.split != "test" for pair in self.dataset.pairs])
        labels, answers, metric = self.dataset.labels, self.dataset.answers, self.metric
        unused = set(labels) - {pair.label for pair in pairs}
        if unused:
            raise DataError(
                f"label {min(unused)!r} has no training pair; leave it out of the labels"
            )
        return Table(
            views=self.views(pairs, self.encoders),
            targets=targets_of(pairs, labels),
            groups=groups[labelled],
            guids=tuple(pair.guid for pair in pairs),
            labels=labels,
            metric=metric,
            soft_labels=soft_labels_of(pairs, labels, answers) if answers else None,
        )

    @cached_property
    def folds(self) -> list[Rows]:
        from pairfuse.study.folds import make_folds

        study = self.config.study
        return make_folds(
            self.table.targets,
            self.table.groups,
            self.table.labels,
            folds=study.folds,
            repeats=study.repeats,
            n_models=study.n_models,
            seed=study.seed,
        )

    @cached_property
    def prepared(self) -> list[Prepared]:
        """Every row set with the scaling that was fitted on its training rows."""
        from pairfuse.fusion.ensemble import prepare_rows

        out = []
        with progress("scaling folds", len(self.folds), unit="models") as bar:
            for rows in self.folds:
                out += prepare_rows(self.table.views, [rows], seed=self.config.study.seed)
                bar.update()
        return out

    @cached_property
    def inner(self) -> list[InnerFolds]:
        """The folds inside each fold, for nested searches and stacking."""
        from pairfuse.study.nested import prepare_inner

        return prepare_inner(self.table, self.prepared, seed=self.config.study.seed)

    @property
    def stacked(self) -> list[InnerFolds]:
        """The same where the study stacks its recipes, else none."""
        return self.inner if self.config.study.ensemble == "stacking" else []

    def encoder_costs(self, encoders: Sequence[Encoder] = ()) -> list[EncoderCost]:
        """What these, or the workspace's own encoders take on this machine; measured once."""
        from pairfuse.study.cost import measure_encoders

        wanted = encoders or self.encoders
        known = {encoder.name: self._known_cost(encoder) for encoder in wanted}
        unknown = [encoder for encoder in wanted if known[encoder.name] is None]
        kinds = {encoder.modality for encoder in unknown}
        samples = {kind: list(contents(self.dataset, kind).values()) for kind in kinds}
        measured = measure_encoders(unknown, samples, device=self.device)
        for encoder, cost in zip(unknown, measured, strict=True):
            known[encoder.name] = cost
            if not cost.note:
                write_json(self._cost_path(encoder), cost.as_dict())
        return [cost for cost in known.values() if cost]

    def _known_cost(self, encoder: Encoder) -> EncoderCost | None:
        from pairfuse.study.cost import EncoderCost

        try:
            found = json.loads(self._cost_path(encoder).read_text("utf-8"))
            return EncoderCost(**found)
        except (OSError, ValueError, TypeError):
            return None

    def _cost_path(self, encoder: Encoder) -> Path:
        mark = f"{encoder.name}-{fingerprint(encoder)[:8]}-{self.device.replace(':', '-')}"
        return self.cache / "costs" / f"{mark}.json"

    def begin(self) -> None:
        """Write down the resolved configuration before any work."""
        try:
            write_text(self.folder / "config.toml", config_toml(self.config))
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder} ({error.strerror}); name another place with --cache"
            ) from error

    def _extract(
        self, encoder: Encoder, pairs: Sequence[Pair] | None
    ) -> tuple[FeatureStore, Extraction]:
        wanted = self.dataset if pairs is None else replace(self.dataset, pairs=tuple(pairs))
        store = open_store(self.cache, encoder)
        features = self.config.features
        result = extract(
            contents(wanted, encoder.modality),
            encoder,
            store,
            device=features.device,
            batch_size=features.batch_size,
            workers=features.workers,
            on_size=partial(_note_size, encoder.name),
        )
        if result.failed:
            self._note_failed(encoder, result)
        return store, result

    def _note_failed(self, encoder: Encoder, result: Extraction) -> None:
        """Images that failed in full decoding count as unreadable from now on."""
        for digest, reason in result.failed.items():
            log.warning("%s: %s %s", encoder.name, digest[:12], reason)
        if encoder.modality != "text":
            limit = self.config.data.max_pixels
            note_bad(self.census, self._bad_images(encoder, result), max_pixels=limit)
            self.__dict__.pop("dataset", None)

    def _bad_images(self, encoder: Encoder, result: Extraction) -> dict[str, str]:
        """Reasons by the digest of the image, whatever the key of the failed row is made of."""
        digests = {}
        for pair in self.dataset.pairs:
            key, image = (self.dataset.key(pair, kind) for kind in (encoder.modality, "image"))
            if key is not None and image is not None and key.hex() in result.failed:
                digests[image.hex()] = result.failed[key.hex()]
        return digests


def _note_size(encoder: str, rows: int, size: int) -> None:
    room = f"{size / 1e9:.2f} GB" if size > 1e8 else f"{size / 1e6:.1f} MB"
    note(f"features  {encoder}: {rows} rows with their tokens will take {room}")
