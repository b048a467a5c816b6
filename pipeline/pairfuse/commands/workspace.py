"""Workspace: data set, encoders, stores and table of a command, each made once, when asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pairfuse.arrays import Ints
from pairfuse.commands.run_data import RunData, check_data, data_of, write_data
from pairfuse.config import Config, config_toml
from pairfuse.console import log, note, progress
from pairfuse.data.duplicates import duplicate_groups
from pairfuse.data.image_facts import image_facts_file, mark_unreadable
from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import Dataset, Pair
from pairfuse.data.rare_labels import (
    change_labels,
    check_labels,
    check_used,
    different_pairs,
    note_rare,
    pairs_needed,
    rare_changes,
)
from pairfuse.data.readers import DEFAULT_METRIC
from pairfuse.data.soft_labels import soft_labels_of
from pairfuse.encoders import Encoder, build_encoders, fingerprint, resolve_device
from pairfuse.encoders.defaults import resolve_encoders
from pairfuse.errors import ConfigError, DataError, StoreError
from pairfuse.features.extraction import Extraction, contents, extract
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.views import Views, load_views, targets_of
from pairfuse.files import write_json, write_text

if TYPE_CHECKING:
    from pairfuse.fusion.fitting import RowSet, ScaledRowSet
    from pairfuse.study.cost import EncoderCost
    from pairfuse.study.crossfit import FoldedTable, InnerFolds, Table
    from pairfuse.study.tuning import SearchSpec


@dataclass(frozen=True)
class Extracted:
    """Pairs whose features are in the stores, as they are once every image was decoded.

    An image that an encoder could not read is missing here, in `pairs` and in `dataset`.
    """

    dataset: Dataset
    pairs: tuple[Pair, ...]
    stores: tuple[FeatureStore, ...]
    results: tuple[Extraction, ...]

    @cached_property
    def views(self) -> Views:
        """The features of the pairs."""
        return load_views(self.dataset, self.pairs, self.stores)


@dataclass(frozen=True)
class Workspace:
    """What the commands of one process share; each property is made once and never changes.

    The order is fixed: first look, extraction, data set, table, folds. What is derived from the
    data set is derived after extraction, so that an image that proves unreadable when it is decoded
    in full is missing for all of it.
    """

    config: Config
    #: The data set as an earlier extraction left it; without it the files are looked at.
    known: Dataset | None = field(default=None, repr=False)

    def with_dataset(self, dataset: Dataset) -> Workspace:
        """A workspace that begins with this data set; the same one if it did so already."""
        if dataset is self.first_look:
            return self
        return replace(self, config=self.resolved, known=dataset)

    @cached_property
    def resolved(self) -> Config:
        """The configuration with the names of the encoders that are used in place of `auto`."""
        features = self.config.features
        names = resolve_encoders(features.encoders, self._texts)
        return replace(self.config, features=replace(features, encoders=names))

    def _texts(self) -> list[str]:
        return [pair.text for pair in self.first_look.pairs if pair.text is not None]

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.config.run_folder

    @property
    def cache(self) -> Path:
        return Path(self.config.cache)

    @property
    def image_facts(self) -> Path:
        """Where it is kept what is known of each image."""
        return image_facts_file(self.cache)

    @cached_property
    def first_look(self) -> Dataset:
        """The data set before any extraction: a look at each file, no image decoded in full."""
        return self._load() if self.known is None else self.known

    @property
    def every_pair(self) -> Dataset:
        """The files as they are, also the pairs whose label is too rare for the folds."""
        return self._load({})

    @property
    def dataset(self) -> Dataset:
        """The data set after extraction of its labelled pairs, which it waits for."""
        return self.labelled.dataset

    @cached_property
    def labelled(self) -> Extracted:
        """The pairs that have a label, with the features of the configured encoders."""
        return self.extract(self.encoders, self.first_look.split("train", "val"))

    @cached_property
    def encoders(self) -> list[Encoder]:
        features = self.resolved.features
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
        metric = self.config.study.metric or DEFAULT_METRIC[self.first_look.reader]
        if metric == "vqa_accuracy" and not self.first_look.answers:
            raise ConfigError(
                "metric vqa_accuracy needs several annotators' answers to each question, which "
                f"{self.config.data.root} does not have; use --metric macro_f1, accuracy or auroc"
            )
        return metric

    @cached_property
    def search(self) -> SearchSpec:
        """What every arm of the study searches and may spend, and where its trials are kept."""
        from pairfuse.study.tuning import build_search

        return build_search(self.config, device=self.device)

    @cached_property
    def table(self) -> Table:
        """The labelled pairs; each with the group that keeps duplicates together."""
        from pairfuse.study.crossfit import Table

        labels, answers, metric = self.first_look.labels, self.first_look.answers, self.metric
        self.check_labels()
        pairs = self.labelled.pairs
        has_label = np.array([pair.split != "test" for pair in self.dataset.pairs])
        return Table(
            views=self.labelled.views,
            targets=targets_of(pairs, labels),
            groups=duplicate_groups(self.dataset)[has_label],
            guids=tuple(pair.guid for pair in pairs),
            labels=labels,
            metric=metric,
            soft_labels=soft_labels_of(pairs, labels, answers) if answers else None,
        )

    def check_labels(self) -> None:
        """Refuse labels that cannot be trained on, before extraction, which may take hours.

        Raises:
            DataError: There is one label, or some have too few different pairs: all are named.
        """
        counts, folds = different_pairs(self.first_look), self.config.study.folds
        check_used(counts)
        check_labels(counts, folds, keep_rare=self._keeps_rare)
        note_rare(counts, folds)

    @cached_property
    def folds(self) -> list[RowSet]:
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
            keep_rare=self._keeps_rare,
            published=self._published_folds(),
        )

    def _published_folds(self) -> Ints | None:
        """The fold of each labelled pair where the split file says them."""
        folds, guids = self.dataset.folds, self.table.guids
        if not folds:
            return None
        lacking = [guid for guid in guids if guid not in folds]
        if lacking:
            raise DataError(
                f"{self.config.data.split_file} has no fold for {len(lacking)} of {len(guids)} "
                f"labelled pairs, such as {lacking[0]!r}"
            )
        return np.array([folds[guid] for guid in guids], dtype=np.int64)

    @property
    def _keeps_rare(self) -> bool:
        return self.config.data.rare == "keep"

    @cached_property
    def prepared(self) -> list[ScaledRowSet]:
        """Every row set with the scaling that was fitted on its training rows."""
        from pairfuse.fusion.fitting import prepare_rows

        out = []
        with progress("scaling folds", len(self.folds), unit="models") as bar:
            for rows in self.folds:
                out += prepare_rows(self.table.views, [rows], seed=self.config.study.seed)
                bar.update()
        return out

    @cached_property
    def inner(self) -> list[InnerFolds]:
        """The folds inside each fold, for nested searches."""
        from pairfuse.study.nested import prepare_inner

        return prepare_inner(
            self.table,
            self.prepared,
            seed=self.config.study.seed,
            keep_rare=self._keeps_rare,
        )

    @cached_property
    def folded(self) -> FoldedTable:
        """The table with its folds; with those inside each fold where the study needs them."""
        from pairfuse.study.crossfit import FoldedTable

        inner = self.inner if self.config.study.nested else []
        return FoldedTable(self.table, self.prepared, inner)

    def encoder_costs(self, encoders: Sequence[Encoder] = ()) -> list[EncoderCost]:
        """What these, or the workspace's own encoders take on this machine; measured once.

        What was measured while the machine was busy is measured anew once it is not.
        """
        from pairfuse.study.cost import BUSY, machine_load, measure_encoders

        wanted = encoders or self.encoders
        known = {encoder.name: self._known_cost(encoder) for encoder in wanted}
        is_calm = machine_load() <= BUSY
        unknown = [
            encoder
            for encoder in wanted
            if (cost := known[encoder.name]) is None or (cost.is_disturbed and is_calm)
        ]
        kinds = {encoder.modality for encoder in unknown}
        samples = {kind: list(contents(self.dataset, kind).values()) for kind in kinds}
        measured = measure_encoders(
            unknown,
            samples,
            device=self.device,
            max_pixels=self.config.data.max_pixels,
            max_image_bytes=self.config.data.max_image_bytes,
        )
        for encoder, cost in zip(unknown, measured, strict=True):
            before = known[encoder.name]
            if before and cost.note:
                continue  # what is known is better than nothing
            if cost.is_disturbed:
                log.warning(
                    "%s was measured on a busy machine (load %.1f): measured again when calm",
                    encoder.name,
                    cost.load,
                )
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
        """Write down which data the run is of, and the resolved configuration, before any work.

        Raises:
            ConfigError: The run is of other data, or what says so is damaged.
        """
        self.check_run()
        try:
            write_data(self.folder, self._run_data)
            write_text(self.folder / "config.toml", config_toml(self.resolved))
        except OSError as error:
            raise StoreError(
                f"cannot write to {self.folder} ({error.strerror}); name another place with --cache"
            ) from error

    def check_run(self) -> None:
        """Refuse to mix data sets in one run folder.

        Raises:
            ConfigError: The run is of other data, or what says so is damaged.
        """
        check_data(self.folder, self._run_data)

    @cached_property
    def _run_data(self) -> RunData:
        return data_of(self.config.data.root, self.first_look)

    def extract(self, encoders: Sequence[Encoder], pairs: Sequence[Pair]) -> Extracted:
        """Bring every encoder's store up to these pairs of the first look.

        Images that cannot be decoded in full are noted, and missing in what is returned.

        Raises:
            DataError: Without them a pair has nothing left to train on.
        """
        stores, results = [], []
        unreadable: dict[str, str] = {}  # reasons by the digest of the image
        for encoder in encoders:
            wanted = replace(self.first_look, pairs=self._without(pairs, unreadable))
            store = open_store(self.cache, encoder)
            result = self._extract(encoder, wanted, store)
            unreadable |= _unreadable(wanted, encoder, result)
            stores.append(store)
            results.append(result)
        dataset = self.first_look
        if unreadable:
            mark_unreadable(self.image_facts, unreadable, max_pixels=self.config.data.max_pixels)
            dataset = self._load(self.first_look.rare)
        by_guid = {pair.guid: pair for pair in dataset.pairs}
        return Extracted(
            dataset=dataset,
            pairs=tuple(by_guid[pair.guid] for pair in pairs),
            stores=tuple(stores),
            results=tuple(results),
        )

    def _load(self, rare: Mapping[str, str] | None = None) -> Dataset:
        """Read the files; what becomes of rare labels is decided once, by the first look."""
        data, folds = self.config.data, self.config.study.folds
        dataset = load_dataset(
            Path(data.root),
            reader=data.reader,
            columns=data.columns,
            encoding=data.encoding,
            labels=data.labels,
            strict=data.strict,
            missing_labels=data.missing_labels,
            follow_links=data.follow_links,
            facts_file=self.image_facts,
            max_pixels=data.max_pixels,
            max_image_bytes=data.max_image_bytes,
            split_file=Path(data.split_file) if data.split_file else None,
            image_root=Path(data.image_root) if data.image_root else None,
        )
        changes = rare_changes(dataset, data.rare, folds) if rare is None else rare
        return change_labels(dataset, changes, pairs_needed(folds))

    def _without(self, pairs: Sequence[Pair], unreadable: Mapping[str, str]) -> tuple[Pair, ...]:
        """The pairs, those of these images without them."""
        if not unreadable:
            return tuple(pairs)
        images = self.first_look.images
        return tuple(
            replace(pair, image=None)
            if pair.image is not None and images[pair.guid].digest in unreadable
            else pair
            for pair in pairs
        )

    def _extract(self, encoder: Encoder, wanted: Dataset, store: FeatureStore) -> Extraction:
        features = self.config.features
        result = extract(
            contents(wanted, encoder.modality),
            encoder,
            store,
            device=features.device,
            batch_size=features.batch_size,
            workers=features.workers,
            max_pixels=self.config.data.max_pixels,
            max_image_bytes=self.config.data.max_image_bytes,
            on_size=partial(_note_size, encoder.name),
        )
        for digest, reason in result.failed.items():
            log.warning("%s: %s %s", encoder.name, digest[:12], reason)
        return result


def _unreadable(dataset: Dataset, encoder: Encoder, result: Extraction) -> dict[str, str]:
    """Reasons by the digest of the image, whatever the key of the failed row is made of."""
    if encoder.modality == "text" or not result.failed:
        return {}
    found = {}
    for pair in dataset.pairs:
        key, image = dataset.key(pair, encoder.modality), dataset.key(pair, "image")
        if key is not None and image is not None and key.hex() in result.failed:
            found[image.hex()] = result.failed[key.hex()]
    return found


def _note_size(encoder: str, rows: int, size: int) -> None:
    space = f"{size / 1e9:.2f} GB" if size > 1e8 else f"{size / 1e6:.1f} MB"
    note(f"features  {encoder}: {rows} rows with their tokens will take {space}")
