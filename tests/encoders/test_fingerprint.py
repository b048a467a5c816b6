"""A fingerprint moves with everything that moves the features, and with nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.encoders.base import Encoder

Make = Callable[..., Path]

KINDS = {"bert": "text", "sentence-bert": "text", "vit": "image", "resnet": "image"}
KINDS |= dict.fromkeys(("distilbert", "roberta", "xlm-r", "deberta-v3"), "text")
KINDS |= dict.fromkeys(("dinov2", "convnext", "efficientnet"), "image")
KINDS |= dict.fromkeys(("vilt", "blip"), "joint")
JOINT = ("clip", "siglip", "siglip2", "chinese-clip", "flava")


def build(kind: str, folder: Path, view: str = "", **options: object) -> list[Encoder]:
    spec = f"{view or KINDS.get(kind, kind)}={folder}"
    return build_encoders([spec], device="cpu", **options)  # type: ignore[arg-type]


def prints(encoders: list[Encoder]) -> list[str]:
    return [fingerprint(encoder) for encoder in encoders]


def nudge_one_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    first = next(tensor for tensor in tensors.values() if tensor.is_floating_point())
    first.view(-1)[0] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, **changes}))

    return change


def rename_a_word(folder: Path) -> None:
    words = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(words.replace("cat", "cow"))


CHANGES = [
    *((kind, nudge_one_weight) for kind in (*KINDS, *JOINT)),
    ("bert", rename_a_word),
    ("bert", edit("tokenizer_config.json", do_lower_case=False)),
    ("bert", edit("config.json", layer_norm_eps=0.1)),
    ("vilt", rename_a_word),
    ("vilt", edit("preprocessor_config.json", size_divisor=16)),
    ("blip", edit("config.json", image_text_hidden_size=16)),
    ("vit", edit("preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])),
    ("vit", edit("preprocessor_config.json", resample=0)),
]

NO_CHANGES = [
    ("bert", edit("config.json", _name_or_path="elsewhere", dtype="float32", id2label={"0": "x"})),
    ("bert", lambda folder: (folder / "README.md").write_text("read me")),
    ("vit", edit("preprocessor_config.json", processor_class="ViTProcessor")),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES)
def test_what_changes_features_changes_the_fingerprint(
    kind: str, change: Callable[[Path], object], own_copy: Make
) -> None:
    before = prints(build(kind, own_copy(kind, "before")))
    change(folder := own_copy(kind, "after"))
    assert not set(before) & set(prints(build(kind, folder)))


@pytest.mark.parametrize(("kind", "change"), NO_CHANGES)
def test_what_leaves_features_alone_leaves_the_fingerprint(
    kind: str, change: Callable[[Path], object], own_copy: Make
) -> None:
    before = prints(build(kind, own_copy(kind, "before")))
    change(folder := own_copy(kind, "after"))
    assert prints(build(kind, folder)) == before


@pytest.mark.parametrize("kind", [*KINDS, *JOINT])
def test_a_copied_folder_under_another_name_has_the_same_fingerprint(
    kind: str, checkpoint: Make, own_copy: Make
) -> None:
    original, copied = build(kind, checkpoint(kind)), build(kind, own_copy(kind, "Other Name"))
    assert prints(original) == prints(copied)
    for encoder in original:  # it is made of plain JSON
        assert json.loads(json.dumps(encoder.made_from)) == encoder.made_from
    if kind in KINDS:
        assert (original[0].name, copied[0].name) == (kind, "other-name")


def test_a_table_name_and_a_path_to_the_same_weights_agree(checkpoint: Make) -> None:
    folder = checkpoint("bert")
    assert prints(build("bert", folder)) == prints(build("bert", folder, view="bert"))


@pytest.mark.parametrize(
    "options",
    [
        {"pooling": "mean"},
        {"pooling": "last2"},
        {"pooling": "mean-of-layers"},
        {"max_length": 12},
        {"precision": "bf16"},
    ],
    ids=str,
)
def test_options_that_change_features_change_the_fingerprint(
    options: dict[str, object], checkpoint: Make
) -> None:
    folder, plain = checkpoint("bert"), {"precision": "fp32"}
    before = prints(build("bert", folder, **plain))
    assert before != prints(build("bert", folder, **{**plain, **options}))


@pytest.mark.parametrize("kind", ["bert", "clip", "vilt"])
def test_what_is_kept_of_a_long_text_is_in_the_fingerprint(kind: str, checkpoint: Make) -> None:
    head = build(kind, checkpoint(kind))
    both = build(kind, checkpoint(kind), truncation="head-tail")
    changed = [
        one.modality
        for one, other in zip(head, both, strict=True)
        if fingerprint(one) != fingerprint(other)
    ]
    assert changed == [each.modality for each in head if each.modality != "image"]


@pytest.mark.parametrize(("kind", "views"), [("clip", 2), ("flava", 3)])
def test_the_views_of_a_checkpoint_differ(kind: str, views: int, checkpoint: Make) -> None:
    agreement = build(kind, checkpoint(kind), view="joint") if kind == "clip" else []
    found = prints(build(kind, checkpoint(kind)) + agreement)
    assert len(set(found)) == len(found) == views + len(agreement)


def test_shards_count_in_the_order_of_their_names(own_copy: Make) -> None:
    folder = own_copy("bert")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = {
        name: f"model-{1 + (index > 5):05}-of-00002.safetensors" for index, name in enumerate(names)
    }
    for file in set(files.values()):
        part = {name: tensors[name] for name in names if files[name] == file}
        save_file(part, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (encoder,) = build("bert", folder)
    before = fingerprint(encoder)
    assert torch.isfinite(torch.tensor(_encode(encoder))).all()
    index["weight_map"] = dict(reversed(files.items()))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert prints(build("bert", folder)) == [before]


def _encode(encoder: Encoder) -> object:
    loaded = encoder.load("cpu")
    return loaded.encode([loaded.prepare("a cat")])
