"""Helpers for the commands: a quick study by the command line, and what it leaves in files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from pairfuse.cli import main

TEST_PAIRS = 12
QUICK = [
    *("--encoders", "ngram efficientnet-lite0", "--trials", "2", "--folds", "2"),
    *("--repeats", "1", "--n-models", "1", "--seed", "0", "--set", "recipe.epochs=5"),
]
BARE = "bare-pair"  # a test pair of which neither text nor image is there


def run_command(name: str, root: Path, cache: Path, *more: str) -> int:
    options = QUICK if name in ("run", "tune", "train", "ablate") else []
    if name == "features":
        options = QUICK[:2]
    return main([name, "--data", str(root), "--cache", str(cache), *options, *more])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def guids(root: Path, name: str) -> list[str]:
    lines = (root / name).read_text("utf-8-sig").splitlines()[1:]
    return [line.split(",")[0] for line in lines]


def edit_json(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
