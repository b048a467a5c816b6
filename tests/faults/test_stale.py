"""Stale hits: what changes features is computed anew, row for row; what does not costs nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copytree, move
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pairfuse.commands.workspace import Workspace
from pairfuse.config import load_config
from pairfuse.encoders import base, checkpoint_folder
from pairfuse.features.extraction import Extraction
from pairfuse.features.views import Views
from toys import checkpoints
from toys.data import picture, saved, write_labels, write_set

TRAIN = {"1": "good", "2": "bad", "3": "good", "4": "bad"}
TEST = ["5", "6"]
ALL = len(TRAIN) + len(TEST)
NONE: dict[str, int] = {}


@dataclass
class World:
    """A data set, two checkpoints and a cache that already holds all of their features."""

    place: Path
    patch: pytest.MonkeyPatch
    root: str = "set"
    models: str = "models"
    cache: str = "cache"
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.place / self.root / "data"

    def model(self, name: str) -> Path:
        return self.place / self.models / name

    def workspace(self, cache: str = "") -> Workspace:
        specs = [f"text={self.model('bert')}", f"image={self.model('resnet')}"]
        plain = {
            "features.device": "cpu",
            "features.precision": "fp32",
            "features.encoders": specs,
        }
        places = {"data.root": str(self.place / self.root)}
        return Workspace(
            load_config(
                None,
                {**plain, **places, **self.flags, "cache": str(self.place / (cache or self.cache))},
            )
        )

    def extract(self, cache: str = "") -> tuple[dict[str, Extraction], Views]:
        workspace = self.workspace(cache)
        found = workspace.extract(workspace.encoders, workspace.first_look.pairs)
        return {
            s.modality: r for s, r in zip(found.stores, found.results, strict=True)
        }, found.views


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world before any change; read only."""
    place = tmp_path_factory.mktemp("stale")
    write_set(place / "set", TRAIN, TEST)
    checkpoints.bert(place / "models" / "bert")
    checkpoints.resnet(place / "models" / "resnet")
    with pytest.MonkeyPatch.context() as patch:
        done, _ = World(place, patch).extract()
    assert {kind: each.computed for kind, each in done.items()} == {"text": ALL, "image": ALL}
    return place


@pytest.fixture
def world(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(Path(copytree(filled, tmp_path / "world")), monkeypatch)


Mutation = Callable[[World], object]


def options(**flags: object) -> Mutation:
    return lambda world: world.flags.update({f"features.{key}": v for key, v in flags.items()})


def settings_of(model: str, file: str, **changes: object) -> Mutation:
    def change(world: World) -> None:
        path = world.model(model) / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def one_weight(model: str) -> Mutation:
    def change(world: World) -> None:
        from safetensors.numpy import load_file, save_file

        file = world.model(model) / "model.safetensors"
        tensors = dict(load_file(file))
        name = min(name for name, values in tensors.items() if values.dtype == np.float32)
        tensors[name] = tensors[name].copy()
        tensors[name].flat[0] += np.float32(0.5)
        save_file(tensors, file, metadata={"format": "pt"})

    return change


def edit_a_byte(world: World) -> None:
    path = world.data / "2.txt"
    path.write_bytes(path.read_bytes().replace(b"bad", b"bed"))


def save_image_again(world: World) -> None:
    path = world.data / "3.png"
    with Image.open(path) as image:
        path.write_bytes(saved(image, compress_level=0))


def other_words(world: World) -> None:
    path = world.model("bert") / "vocab.txt"
    path.write_text(path.read_text().replace("##x\n##y", "##y\n##x"))


def other_backend(world: World) -> None:
    settings = checkpoint_folder.image_settings
    world.patch.setattr(
        checkpoint_folder,
        "image_settings",
        lambda folder: {**settings(folder), "backend": "torchvision"},
    )


def our_version(world: World) -> None:
    world.patch.setattr(base, "PREPROCESSING_VERSION", base.PREPROCESSING_VERSION + 1)


def add_a_pair(world: World) -> None:
    write_labels(world.data.parent / "train.txt", {**TRAIN, "7": "good"})
    (world.data / "7.txt").write_text("one more")
    (world.data / "7.png").write_bytes(saved(picture(70)))


def rename_guids(world: World) -> None:
    for path in list(world.data.iterdir()):
        path.rename(path.with_name("pair-" + path.name))
    write_labels(world.data.parent / "train.txt", {f"pair-{k}": v for k, v in TRAIN.items()})
    write_labels(
        world.data.parent / "test_without_label.txt", dict.fromkeys(["pair-5", "pair-6"], "null")
    )


def labels(order: int, **changes: str) -> Mutation:
    return lambda world: write_labels(
        world.data.parent / "train.txt", dict([*{**TRAIN, **changes}.items()][::order])
    )


def move_to_test(world: World) -> None:
    some = {guid: label for guid, label in TRAIN.items() if guid != "1"}
    write_labels(world.data.parent / "train.txt", some)
    write_labels(
        world.data.parent / "test_without_label.txt", dict.fromkeys(["1", "5", "6"], "null")
    )


def drop_the_test_pairs(world: World) -> None:
    (world.data.parent / "test_without_label.txt").unlink()


def touch_all(world: World) -> None:
    for number, path in enumerate(sorted(world.place.rglob("*"))):
        os.utime(path, (number, number))


def swap_texts(world: World) -> None:
    one, other = world.data / "1.txt", world.data / "2.txt"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)


def other_encoding(world: World) -> None:
    path = world.data / "2.txt"
    path.write_bytes(path.read_text("utf-8").encode("utf-16"))


def elsewhere(which: str) -> Mutation:
    def change(world: World) -> None:
        old = getattr(world, which)
        (world.place / "other").mkdir()
        move(world.place / old, world.place / "other" / "place")
        setattr(world, which, "other/place")

    return change


def rename_image(world: World) -> None:
    (world.data / "1.png").rename(world.data / "1.PNG")


def image_of_another(world: World) -> None:
    (world.data / "1.png").write_bytes((world.data / "2.png").read_bytes())


TEXTS, IMAGES = {"text": ALL}, {"image": ALL}
PREPARE = "preprocessor_config.json"

#: What is changed, how, and the rows that must be computed anew, of texts and of images.
MUTATIONS: Mapping[str, tuple[Mutation, Mapping[str, int]]] = {
    "text: one byte edited": (edit_a_byte, {"text": 1}),
    "image: saved again": (save_image_again, {"image": 1}),
    "pair: one added": (add_a_pair, {"text": 1, "image": 1}),
    "bert: one weight": (one_weight("bert"), TEXTS),
    "resnet: one weight": (one_weight("resnet"), IMAGES),
    "bert: vocabulary": (other_words, TEXTS),
    "bert: letter case": (
        settings_of("bert", "tokenizer_config.json", do_lower_case=False),
        TEXTS,
    ),
    "bert: config.json": (settings_of("bert", "config.json", layer_norm_eps=0.1), TEXTS),
    "resnet: config.json": (settings_of("resnet", "config.json", hidden_act="gelu"), IMAGES),
    "pooling": (options(pooling="mean"), TEXTS),
    "max_length": (options(max_length=6), TEXTS),
    "image: mean": (settings_of("resnet", PREPARE, image_mean=[0.4, 0.5, 0.5]), IMAGES),
    "image: std": (settings_of("resnet", PREPARE, image_std=[0.5, 0.5, 0.4]), IMAGES),
    "image: size": (
        settings_of("resnet", PREPARE, size={"height": 32, "width": 40}),
        IMAGES,
    ),
    "image: interpolation": (settings_of("resnet", PREPARE, resample=0), IMAGES),
    "image: back end": (other_backend, IMAGES),
    "precision": (options(precision="bf16"), {**TEXTS, **IMAGES}),
    "our preprocessing": (our_version, {**TEXTS, **IMAGES}),
    "guids": (rename_guids, NONE),
    "a label": (labels(1, **{"1": "bad"}), NONE),
    "order of the pairs": (labels(-1), NONE),
    "split: one to test": (move_to_test, NONE),
    "split: fewer pairs": (drop_the_test_pairs, NONE),
    "file times": (touch_all, NONE),
    "two texts swapped": (swap_texts, NONE),
    "text: other encoding": (other_encoding, NONE),
    "image: ending": (rename_image, NONE),
    "image: that of another": (image_of_another, NONE),
    "data set: elsewhere": (elsewhere("root"), NONE),
    "checkpoints: elsewhere": (elsewhere("models"), NONE),
    "cache: elsewhere": (elsewhere("cache"), NONE),
    "batch size": (options(batch_size=1), NONE),
    "device": (options(device="cpu:0"), NONE),
    "workers": (options(workers=3), NONE),
    "max_length over all": (options(max_length=400), NONE),
    "name and labels of bert": (
        settings_of("bert", "config.json", _name_or_path="x", id2label={"0": "y"}),
        NONE,
    ),
}


def measured(world: World, change: Mutation) -> tuple[dict[str, int], Views]:
    """Change the world; say which rows the next extraction computes, and what it then gives."""
    change(world)
    done, views = world.extract()
    assert not any(each.failed for each in done.values())
    return {kind: each.computed for kind, each in done.items() if each.computed}, views


@pytest.mark.parametrize("name", MUTATIONS)
def test_exactly_the_rows_concerned_are_computed_anew(name: str, world: World) -> None:
    change, expected = MUTATIONS[name]
    assert measured(world, change)[0] == expected
    done, _ = world.extract()
    assert not any(each.computed for each in done.values()), "the second run computes again"


@pytest.mark.faults
def test_no_mutation_is_answered_with_a_stale_row(
    filled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against a cache that was empty; the table is printed."""
    lines = [f"{'mutation':<26}{'texts':>7}{'images':>8}   expected"]
    for number, (name, (change, expected)) in enumerate(MUTATIONS.items()):
        place = Path(copytree(filled, tmp_path / str(number)))
        with pytest.MonkeyPatch.context() as patch:
            world = World(place, patch)
            found, views = measured(world, change)
            _, fresh = world.extract("empty")
        for view, features in fresh.features.items():
            loose = 0.05 if name == "precision" else 1e-5
            assert np.allclose(views.features[view], features, atol=loose), (name, view)
        counts = [each.get(kind, 0) for each in (found, expected) for kind in ("text", "image")]
        lines.append("{:<26}{:>7}{:>8}   {} {}".format(name, *counts))
        assert found == expected, name
    with capsys.disabled():
        print("\n" + "\n".join(lines))
