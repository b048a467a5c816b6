"""Start-up: a command imports what it needs; a full feature store needs no network's libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pairfuse.cli import main
from toys.data import write_set

HEAVY = ("torch", "transformers", "torchvision", "sklearn", "optuna", "matplotlib")


def test_features_with_nothing_to_do_import_nothing_heavy(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"1": "up", "2": "down"})
    arguments = ["features", "--data", str(root), "--cache", str(tmp_path / "cache")]
    arguments += ["--encoders", "ngram efficientnet-lite0"]
    assert main(arguments) == 0
    code = (
        "import sys, pairfuse.cli\n"
        f"assert pairfuse.cli.main({arguments!r}) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("nothing computed") == 2
    assert done.stderr.strip() == "[]"
