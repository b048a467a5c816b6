"""Attack: one system call fails, at every place that a command touches; what becomes of the store?

Each command runs on a copy of a small, finished cache. A library loaded before the C library makes
the n-th open, read, write, ... below that cache fail with an error of the system
(`failing_calls.c`). Afterwards every row that was in the store must be there, and the same command
must end well without the fault. `make attack` runs all of it (an hour on two cores).

    python tests/attack/attack.py [--quick] [--commands features tune ...]
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from toys.data import write_set

SOURCE = Path(__file__).with_name("failing_calls.c")
#: Kind of call, and the errors that it is made to answer.
FAULTS: Mapping[str, tuple[int, ...]] = {
    "open": (errno.EMFILE, errno.EIO),
    "read": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO,),
    "rename": (errno.EIO,),
    "unlink": (errno.EIO,),
    "mkdir": (errno.ENOSPC,),
    "flock": (errno.ENOLCK, errno.EOPNOTSUPP),
    "stat": (errno.EIO,),
    "list": (errno.EMFILE, errno.EIO),
}
STUDY = (
    *("--encoders", "ngram efficientnet-lite0", "--folds", "2", "--repeats", "1"),
    *("--n-models", "1", "--trials", "1", "--set", "recipe.epochs=2"),
)
#: Command, what it is called with, and the stages that were run before it.
COMMANDS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "features": (("features", *STUDY[:2]), 0),
    "tune": (("tune", *STUDY), 1),
    "train": (("train", *STUDY), 2),
    "ablate": (("ablate", *STUDY), 3),
    "predict": (("predict",), 4),
    "report": (("report", *STUDY), 4),
    "verify": (("cache", "verify", "--repair"), 1),
    "gc": (("cache", "gc", "--yes"), 1),
    "import": (("cache", "import", "store.tar"), 0),
}
STAGES = ("features", "tune", "train", "ablate")
TIMEOUT = 300


@dataclass(frozen=True)
class Outcome:
    """What one fault did."""

    command: str
    call: str
    error: int
    at: int
    code: int
    stderr: str
    lost: int

    @property
    def kind(self) -> str:
        if "Traceback" in self.stderr:
            return "traceback"
        if self.code == 0:
            return "survived"
        lines = [line for line in self.stderr.splitlines() if line.startswith("error: ")]
        return "one line" if self.code == 1 and len(lines) == 1 else "other"


def compiled(folder: Path) -> Path | None:
    """The library, or None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    library = folder / "failing_calls.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Arena:
    """States of a small cache, one after each stage, and the library that makes calls fail."""

    def __init__(self, folder: Path, library: Path) -> None:
        self.folder, self.library = folder, library
        labels = {f"p{n}": "pn"[n % 2] for n in range(24)}
        self.data = write_set(folder / "data" / "toy", labels, test=("t1", "t2"))
        self.states = [folder / "state0"]
        self.states[0].mkdir()

    def prepare(self, stages: int) -> None:
        """Run the first so many stages, each once."""
        while len(self.states) <= stages:
            state = self.folder / f"state{len(self.states)}"
            shutil.copytree(self.states[-1], state)
            done = self.run(COMMANDS[STAGES[len(self.states) - 1]][0], state)
            assert done.returncode == 0, done.stderr
            self.states.append(state)
        if not (self.folder / "store.tar").exists() and len(self.states) > 1:
            name = next(path.name for path in (self.states[1] / "features").glob("ngram*"))
            export = ("cache", "export", name, str(self.folder / "store.tar"))
            assert self.run(export, self.states[1]).returncode == 0

    def run(
        self, arguments: Sequence[str], cache: Path, fault: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """One command on this cache."""
        own = [str(self.folder / each) if each == "store.tar" else each for each in arguments]
        where = ["--cache", str(cache)]
        if arguments[0] != "cache":
            where += ["--data", str(self.data)]
        environment = dict(os.environ)
        if fault:
            environment |= {"LD_PRELOAD": str(self.library), "FAIL_BELOW": str(cache), **fault}
        return subprocess.run(
            [sys.executable, "-m", "pairfuse", *own, *where],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
        )

    def attack(self, command: str, call: str, error: int, most: int) -> Iterator[Outcome]:
        """Let one call fail, at no more than so many places."""
        arguments, stages = COMMANDS[command]
        self.prepare(max(stages, 1))
        counted = self.folder / "count"
        counted.unlink(missing_ok=True)
        cache = self._copy(stages)
        self.run(arguments, cache, {"FAIL_CALL": call, "FAIL_COUNT": str(counted)})
        calls = max([0, *map(int, counted.read_text().split())]) if counted.exists() else 0
        step = max(1, -(-calls // most))
        for at in range(1, calls + 1, step):
            cache = self._copy(stages)
            before = keys_in(cache)
            fault = {"FAIL_CALL": call, "FAIL_ERRNO": str(error), "FAIL_AT": str(at)}
            done = self.run(arguments, cache, fault)
            lost = len(before - keys_in(cache))
            again = self.run(arguments, cache)
            told = done.stderr + (f"Traceback of the second run: {again.stderr}" * again.returncode)
            yield Outcome(command, call, error, at, done.returncode, told, lost)

    def _copy(self, stages: int) -> Path:
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self.states[stages], cache)
        return cache


def keys_in(cache: Path) -> set[tuple[str, bytes]]:
    """Store and key of every row in the sound parts."""
    from pairfuse.features.part import open_part

    return {
        (path.parents[1].name, key.tobytes())
        for path in cache.glob("features/*/parts/*.h5")
        for key in open_part(path).keys
    }


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--quick", action="store_true", help="two places for each kind of call")
    asked.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    given = asked.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        library = compiled(Path(name))
        if library is None:
            print("no C compiler: nothing attacked")
            return 0
        arena = Arena(Path(name), library)
        heads = ("tried", "survived", "one line", "other", "traceback", "lost rows")
        print(f"{'command':<10}" + "".join(f"{head:>11}" for head in heads), flush=True)
        for command in given.commands:
            counts: Counter[str] = Counter()
            for call, errors in FAULTS.items():
                for error in errors:
                    for found in arena.attack(command, call, error, 2 if given.quick else 12):
                        counts.update({"tried": 1, found.kind: 1, "lost rows": found.lost})
                        if found.lost or found.kind in ("other", "traceback"):
                            bad += 1
                            where = f"{command} {call} {errno.errorcode[error]} at {found.at}"
                            print(f"  {where}: {found.stderr.strip()[-600:]}", file=sys.stderr)
            print(f"{command:<10}" + "".join(f"{counts[head]:>11}" for head in heads), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
