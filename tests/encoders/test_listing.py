"""The list of encoders says what is so: widths and parameters as built, weights where they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pairfuse.encoders import ENCODERS, build_encoders
from pairfuse.encoders.convnet import CONV_NETS
from pairfuse.encoders.listing import Listed, list_encoders, table_lines

NETS = {name: name for name in CONV_NETS} | {"efficientnet": "efficientnet-b0"}


def row(name: str) -> Listed:
    return next(each for each in list_encoders() if each.name == name)


def test_every_encoder_is_listed_with_a_line_of_its_own() -> None:
    listed = list_encoders()
    assert [each.name for each in listed] == list(ENCODERS)
    lines = table_lines(listed)
    assert [line.split()[0] for line in lines if line[0] != " "] == ["name", *ENCODERS]
    assert [line.strip() for line in lines if line[0] == " "] == [each.about for each in listed]


@pytest.mark.parametrize("name", ["minilm", "ngram", "lexicon", "efficientnet-lite0"])
def test_what_comes_with_the_installation_is_as_listed(name: str) -> None:
    [encoder] = build_encoders([name], device="cpu")
    found = row(name)
    assert found.weights == ("no weights" if name in ("ngram", "lexicon") else "bundled")
    assert (found.modality, found.width) == ((encoder.modality,), (encoder.dim,))


@pytest.mark.parametrize("name", sorted(NETS.keys() & ENCODERS.keys()))
def test_parameters_and_width_are_those_of_the_network(name: str) -> None:
    net = CONV_NETS[NETS[name]]
    with torch.device("meta"):
        parameters = dict(net.build().named_parameters())
    read = [values for key, values in parameters.items() if not key.startswith("_fc.")]
    assert row(name).parameters == sum(values.numel() for values in read)
    assert row(name).width == (net.dim,)


def test_a_checkpoint_in_the_hubs_cache_is_called_cached(
    own_copy: Callable[..., Path], tmp_path: Path
) -> None:
    assert row("vilt").weights == "download"
    own_copy("vilt", "hub/models--dandelin--vilt-b32-mlm/snapshots/abc")
    assert row("vilt").weights == "cached"


def test_a_downloaded_file_is_called_cached(tmp_path: Path) -> None:
    assert row("resnet18").weights == "download"
    place = tmp_path / "torch" / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert row("resnet18").weights == "cached"


def test_several_views_are_listed_each() -> None:
    found = row("flava")
    assert found.modality == ("text", "image", "joint")
    assert found.width == (768, 768, 768)
    assert row("clip-agreement").width == (1 + row("clip-text").width[0],)
