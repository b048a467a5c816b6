"""One small run, which the tests of all commands read."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from pairfuse.data.demo import draw_demo
from toys.commands import BARE, TEST_PAIRS, run_command


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set; one test pair has neither file."""
    folder = tmp_path_factory.mktemp("stages") / "toy"
    draw_demo(folder, pairs=80, test_pairs=TEST_PAIRS)
    with (folder / "test_without_label.txt").open("a", encoding="utf-8") as file:
        file.write(f"{BARE},null\n")
    return folder


@pytest.fixture(scope="session")
def cache(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one `pairfuse run` leaves; read only."""
    folder = tmp_path_factory.mktemp("cache")
    assert run_command("run", root, folder) == 0
    return folder


@pytest.fixture
def own(cache: Path, tmp_path: Path) -> Path:
    """A copy of the cache that a test may change."""
    return Path(copytree(cache, tmp_path / "cache"))
