"""Checkpoint: comes back bit for bit, or is refused with a reason; nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from pairfuse.errors import CheckpointError
from pairfuse.fusion.baselines import BASELINES, fit_baseline
from pairfuse.fusion.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.study.crossfit import cross_fit
from pairfuse.study.folds import make_folds
from toys.fusion import PLAIN, POOLED_HEADS, noise, table, told_by_words, without


def _trained(head: str = "concat", **changes: object) -> Checkpoint:
    given = table(*told_by_words(80))
    rows = make_folds(given.targets, given.groups, given.labels, folds=2, n_models=2, seed=0)
    recipe = replace(PLAIN, head=head, epochs=2, n_components=4, **changes)  # type: ignore[arg-type]
    [fit] = cross_fit(given, prepare_rows(given.views, rows, seed=0), [recipe], seed=0)
    options = {"encoders": ["words", "look"], "pooling": "auto"}
    return Checkpoint(fit.ensemble, {"words": "ab12", "look": "cd34"}, options, {"accuracy": 0.5})


def _mixed() -> Checkpoint:
    """Heads and every baseline in one ensemble, some with more weight than others."""
    views, targets = told_by_words(80)
    heads = _trained()
    plain = [
        fit_baseline(
            baseline, views, targets, 3, train=np.arange(70), val=np.arange(70, 80), seed=0
        )
        for baseline in BASELINES.values()
    ]
    members = (*heads.ensemble.members, *plain)
    weights = np.arange(1, len(members) + 1) / np.arange(1, len(members) + 1).sum()
    mixed = replace(heads.ensemble, members=members, weights=tuple(weights.tolist()))
    return replace(heads, ensemble=mixed)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_checkpoint(folder, _trained())
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(copytree(saved, tmp_path / "model"))


def _describe(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.json"
    description = json.loads(path.read_text("utf-8"))
    change(description)
    path.write_text(json.dumps(description), "utf-8")


def _put_weights(folder: Path, data: bytes) -> None:
    """Other weights, and a description that vouches for them."""
    (folder / "weights.safetensors").write_bytes(data)
    _describe(folder, lambda d: d.update(weights_sha256=hashlib.sha256(data).hexdigest()))


def _flip_byte(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("head", POOLED_HEADS)
def test_what_was_saved_predicts_bit_for_bit(head: str, tmp_path: Path) -> None:
    before = _trained(head)
    save_checkpoint(tmp_path / "m", before)
    after = load_checkpoint(tmp_path / "m")
    views = without(without(noise(30, seed=5), "look", [1, 2]), "words", [2, 3])
    assert np.array_equal(before.ensemble.predict_proba(views), after.ensemble.predict_proba(views))
    assert after.ensemble.labels == before.ensemble.labels
    assert after.fingerprints == before.fingerprints
    assert after.encoder_options == before.encoder_options
    assert after.scores == before.scores


def test_a_mixture_with_baselines_comes_back(tmp_path: Path) -> None:
    before = _mixed()
    save_checkpoint(tmp_path / "m", before)
    after = load_checkpoint(tmp_path / "m").ensemble
    views = without(without(noise(30, seed=5), "look", [1, 2]), "words", [2, 3])
    found = after.predict_proba(views)
    assert found == pytest.approx(before.ensemble.predict_proba(views), abs=1e-4)
    assert not np.allclose(found, _trained().ensemble.predict_proba(views), atol=1e-2)
    assert len(list(tmp_path.rglob("*"))) == 3  # the folder, weights, description: no pickle


@pytest.mark.parametrize(
    "weights", [[0.5, 0.5], [0.3] * 4, [1.0, 0.0, 0.0, 0.0], [2, -1, 0.5, -0.5]]
)
def test_weights_that_are_no_shares_are_refused(weights: list[float], model: Path) -> None:
    _describe(model, lambda d: d.update(weights=weights))
    with pytest.raises(CheckpointError, match="its weights"):
        load_checkpoint(model)


def test_a_model_of_one_view_comes_back(tmp_path: Path) -> None:
    before = _trained(views=("words",))
    save_checkpoint(tmp_path / "m", before)
    after = load_checkpoint(tmp_path / "m").ensemble
    assert np.array_equal(before.ensemble.predict_proba(noise(9)), after.predict_proba(noise(9)))


def test_saving_again_replaces_the_model(model: Path) -> None:
    save_checkpoint(model, _trained("linear"))
    assert load_checkpoint(model).ensemble.members[0].model.recipe.head == "linear"


def test_the_folder_holds_safetensors_and_json_alone(saved: Path) -> None:
    assert sorted(path.name for path in saved.iterdir()) == ["model.json", "weights.safetensors"]
    json.loads((saved / "model.json").read_text("utf-8"))
    length = int.from_bytes((saved / "weights.safetensors").read_bytes()[:8], "little")
    json.loads((saved / "weights.safetensors").read_bytes()[8 : 8 + length])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda f: (f / "model.json").unlink(), "no complete model"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "cannot be read"),
    "one bit flipped": (_flip_byte, "is not the file that"),
    "cut weights": (lambda f: _put_weights(f, b"12345"), "does not fit"),
    "no JSON": (lambda f: (f / "model.json").write_text("{"), "is not JSON"),
    "bytes": (lambda f: (f / "model.json").write_bytes(b"\xff\xfe\x00"), "is not JSON"),
    "a list": (lambda f: (f / "model.json").write_text("[1]"), "format version None"),
    "format": (lambda f: _describe(f, lambda d: d.update(format_version=2)), "format version 2"),
    "label gone": (lambda f: _describe(f, lambda d: d["labels"].pop()), "does not fit"),
    "label more": (lambda f: _describe(f, lambda d: d["labels"].append("x")), "does not fit"),
    "prior cut": (lambda f: _describe(f, lambda d: d["prior"].pop()), "do not agree"),
    "no members": (lambda f: _describe(f, lambda d: d.update(members=[])), "do not agree"),
    "many members": (
        lambda f: _describe(f, lambda d: d.update(members=99 * d["members"])),
        "does not fit",
    ),
    "other width": (
        lambda f: _describe(f, lambda d: d["members"][0].update(hidden_dim=9)),
        "does not fit",
    ),
    "other head": (
        lambda f: _describe(f, lambda d: d["members"][0].update(head="late")),
        "not fit",
    ),
    "unknown head": (lambda f: _describe(f, lambda d: d["members"][0].update(head="?")), "no head"),
    "odd recipe": (
        lambda f: _describe(f, lambda d: d["members"][0].update(dropout=7)),
        "dropout is 7",
    ),
    "strange key": (
        lambda f: _describe(f, lambda d: d["members"][0].update(hat=1)),
        "does not fit",
    ),
    "members lost": (lambda f: _describe(f, lambda d: d.pop("members")), "does not fit"),
    "odd member": (
        lambda f: _describe(f, lambda d: d["members"][0].update({"is": "luck"})),
        "neither a head nor a baseline",
    ),
    "dims a list": (lambda f: _describe(f, lambda d: d.update(dims=["words"])), "does not fit"),
    "labels a number": (lambda f: _describe(f, lambda d: d.update(labels=3)), "does not fit"),
    "no fingerprints": (lambda f: _describe(f, lambda d: d.update(fingerprints=0)), "not fit"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_model_is_refused_in_one_line(case: str, model: Path) -> None:
    damage, message = BROKEN[case]
    damage(model)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(model)
    assert "pairfuse train" in str(caught.value)
    assert "\n" not in str(caught.value)


class _Trap:
    """Whoever unpickles it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "executed")


@pytest.mark.parametrize("vouched", [False, True])
def test_a_pickle_in_place_of_weights_is_refused_and_never_executed(
    vouched: bool, model: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    data = pickle.dumps(_Trap(marker))
    if vouched:
        _put_weights(model, data)
    else:
        (model / "weights.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        load_checkpoint(model)
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "the trap is no trap"


def test_a_save_that_was_stopped_leaves_no_model(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pairfuse.fusion.checkpoint.write_json", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(model, _trained("linear"))
    with pytest.raises(CheckpointError, match="no complete model"):
        load_checkpoint(model)
