"""Every benchmark that needs nothing installed beside the tests runs, on a few rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pairfuse.data.demo import draw_demo

BENCH = Path(__file__).parent / "bench"
SMALL = {
    "bench_cache.py": "--texts 200 --rows 5000 --rounds 1",
    "bench_memory.py": "--share 0.001",
    "bench_growth.py": "--sizes 60 120",
    "bench_extraction.py": "--data {demo} --encoders efficientnet-lite0 --pairs 8 --rounds 1",
}


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_on_a_few_rows(name: str, tmp_path: Path) -> None:
    if "{demo}" in SMALL[name]:
        draw_demo(tmp_path / "demo", pairs=40, test_pairs=0)
    options = SMALL[name].format(demo=tmp_path / "demo").split()
    done = subprocess.run(
        [sys.executable, str(BENCH / name), *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # two threads on so few rows only wait
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
