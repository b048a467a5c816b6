"""Every benchmark that needs nothing installed beside the tests runs, on a few rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent / "bench"
SMALL = {
    "bench_cache.py": "--texts 200 --rows 5000 --rounds 1",
    "bench_memory.py": "--share 0.001",
    "bench_growth.py": "--sizes 200 400",
    "bench_extraction.py": "--encoders efficientnet-lite0 --pairs 8 --rounds 1",
}


@pytest.mark.parametrize("name", SMALL)
def test_it_runs_on_a_few_rows(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / name), *SMALL[name].split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
