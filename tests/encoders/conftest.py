"""Checkpoints are made once per session and never changed; a test that changes one copies it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from toys import checkpoints

MAKERS: dict[str, Callable[[Path], Path]] = {
    "bert": checkpoints.bert,
    "sentence-bert": checkpoints.sentence_bert,
    "headless-bert": lambda folder: checkpoints.bert(folder, pooler=False),
    "vit": checkpoints.vit,
    "headless-vit": lambda folder: checkpoints.vit(folder, pooler=False),
    "resnet": checkpoints.resnet,
    "clip": checkpoints.clip,
    "siglip": checkpoints.siglip,
    "siglip2": checkpoints.siglip2,
    "distilbert": checkpoints.distilbert,
    "roberta": checkpoints.roberta,
    "xlm-r": checkpoints.xlm_r,
    "deberta-v3": checkpoints.deberta_v3,
    "dinov2": checkpoints.dinov2,
    "convnext": checkpoints.convnext,
    "efficientnet": checkpoints.efficientnet,
    "chinese-clip": checkpoints.chinese_clip,
    "flava": checkpoints.flava,
    "vilt": checkpoints.vilt,
    "blip": checkpoints.blip,
}


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder by name of maker; read only."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind == "deberta-v3":
            pytest.importorskip("sentencepiece")
        if kind not in made:
            made[kind] = MAKERS[kind](tmp_path_factory.mktemp("checkpoints") / kind)
        return made[kind]

    return get


@pytest.fixture
def own_copy(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[..., Path]:
    """A copy of a checkpoint that the test may change."""

    def get(kind: str, name: str = "copy") -> Path:
        return Path(copytree(checkpoint(kind), tmp_path / name))

    return get


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds weights that this machine happens to hold, nor asks a real hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def pytest_make_parametrize_id(val: Any) -> str | None:
    return val if isinstance(val, str) else None
