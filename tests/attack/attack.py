"""Attack: calls fail, signals come, two commands meet; what becomes of the store and the run?

Each command runs on a copy of a small cache, as a process forked from this one, which has imported
what is slow. A library loaded before the C library (`failing_calls.c`) makes calls below that cache
fail: one of them, or each with a small probability. Signals come at random moments; of two commands
in one run folder every pair is tried. Afterwards every row that was in the store must be there,
and the same command must end well and leave what it leaves when nothing disturbs it; a command that
says that it ended well must have left that already. `make attack` runs all of it.

    python tests/attack/attack.py [--quick] [--only features ...] [--attacks EIO pairs ...]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from multiprocessing.process import BaseProcess
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from toys.data import write_set

SOURCE = Path(__file__).with_name("failing_calls.c")
#: Error, and the kinds of calls that are made to answer it.
ERRORS: Mapping[str, tuple[str, ...]] = {
    "EIO": (
        *("open", "read", "write", "fsync", "rename", "unlink", "link", "flock", "stat", "list"),
        *("mkdir", "map"),
    ),
    "ENOSPC": ("open", "write", "rename", "mkdir"),
    "EMFILE": ("open", "list"),
    "EINTR": ("open", "read", "write", "fsync", "flock"),
    "ENOLCK": ("flock",),
}
SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGSTOP")
RANDOM, PAIRS = "random", "pairs"
ATTACKS = (*ERRORS, RANDOM, *SIGNALS, PAIRS)
#: With the attack `random` each call fails with this probability (as libfiu does).
PROBABILITY = 0.005
ENCODERS = ("--encoders", "ngram image=vit", "--batch-size", "2")
#: Quicker by far: nothing imports torch. It is enough where nothing is trained.
TEXT_ONLY = ("--encoders", "ngram", "--batch-size", "2")
STUDY = (
    *("--folds", "2", "--repeats", "1", "--n-models", "1", "--trials", "2"),
    *("--set", "recipe.epochs=2"),
)
#: The stages in their order, and what each is called with.
STAGES: Mapping[str, tuple[str, ...]] = {
    "features": ("features", *ENCODERS),
    "tune": ("tune", *ENCODERS, *STUDY),
    "train": ("train", *ENCODERS, *STUDY),
    "ablate": ("ablate", *ENCODERS, *STUDY),
    "predict": ("predict",),
    "report": ("report", *ENCODERS, *STUDY),
}
#: Commands of upkeep: each begins after `features`, but for `import`, which begins with nothing.
UPKEEP: Mapping[str, tuple[str, ...]] = {
    "verify": ("cache", "verify", "--repair"),
    "gc": ("cache", "gc", "--yes"),
    "import": ("cache", "import", "store.tar"),
}
COMMANDS = {**STAGES, **UPKEEP}
#: What a run folder holds that depends on nothing but data, seed and recipe.
RESULTS = (
    *("best.toml", "history.csv", "scores.json", "ablation.csv", "out_of_fold.csv"),
    *("test_labels.csv", "test_probabilities.csv", "predictions/*.csv", "*/weights.safetensors"),
)
TIMEOUT = 120.0
COLUMNS = ("tried", "survived", "one line", "killed", "lost rows", "traceback", "wrong", "hang")
#: None of these may be counted.
BAD = COLUMNS[4:]
CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Fault:
    """Which calls fail: the n-th of a kind, or each with a probability."""

    call: str = ""
    at: int = 0
    error: int = 0
    probability: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What one attack did: a name of `COLUMNS`, rows that were lost, and what to know of it."""

    kind: str
    lost: int = 0
    told: str = ""


@dataclass(frozen=True)
class Left:
    """What a command left: every proven row by its store and key, and the results of the run."""

    rows: Mapping[tuple[str, bytes], bytes]
    results: Mapping[str, bytes]


@dataclass
class Running:
    """A command in a process of its own; what it says is kept in files."""

    process: BaseProcess
    beside: Path

    def end(self) -> int | None:
        """Its exit status, the negative number of the signal that ended it, None if it hangs."""
        self.process.join(TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            return None
        return self.process.exitcode

    def wait_for_start(self) -> None:
        while not (self.beside / "ready").exists() and self.process.is_alive():
            time.sleep(0.001)

    @property
    def stderr(self) -> str:
        return (self.beside / "stderr").read_text("utf-8", "replace")

    @property
    def calls(self) -> Mapping[str, float]:
        """Calls of each kind, and `hits`: those that were made to fail; none if it was killed."""
        notes = self.beside / "calls"
        return dict(json.loads(notes.read_text())) if notes.exists() else {}

    def outcome(self, code: int | None) -> str:
        if code is None:
            return "hang"
        if "Traceback" in self.stderr or "Exception ignored" in self.stderr:
            return "traceback"
        if code == 0:
            return "survived"
        if code < 0:
            return "killed"
        lines = [line for line in self.stderr.splitlines() if line.startswith(("error: ", "stop"))]
        return "one line" if code in (1, 130, 143) and len(lines) == 1 else "wrong"


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
    """States of a small cache, one before each command, and what each command leaves of it."""

    def __init__(self, folder: Path, *, trains: bool) -> None:
        self.folder = folder
        self.trains = trains
        self.runs = 0
        labels = {f"p{n}": "pn"[n % 2] for n in range(24)}
        self.data = write_set(folder / "data" / "toy", labels, test=("t1", "t2"))
        half = dict(list(labels.items())[:12])  # all that `cache gc` is to keep
        write_set(folder / "half" / "data" / "toy", half)
        self.whole: dict[str, Left] = {}
        self.counted: dict[str, Mapping[str, float]] = {}
        (folder / "empty").mkdir()

    def begin(self, command: str) -> Path:
        """The cache that a command begins with."""
        if command == "features":
            if self.trains:
                self._write_encoder()
            return self.folder / "empty"
        if command in STAGES:
            order = list(STAGES)
            return self.finish(order[order.index(command) - 1])
        features = self.finish("features")
        if command == "import":
            self._export(features)
            return self.folder / "empty"
        return self._damaged(features) if command == "verify" else features

    def finish(self, command: str) -> Path:
        """What a command leaves that nothing disturbs."""
        cache = self.folder / f"after-{command}"
        if cache.exists():
            return cache
        shutil.copytree(self.begin(command), cache)
        running = self.start(command, cache)
        code = running.end()
        if code != 0:
            raise RuntimeError(f"{command} alone ends with {code}: {running.stderr}")
        self.whole[command] = left_in(cache)
        for module in (running.beside / "modules").read_text().split():
            with contextlib.suppress(Exception):  # the next command finds it imported
                importlib.import_module(module)
        return cache

    def _write_encoder(self) -> None:
        """A tiny image encoder; what `ablate` measures in fresh processes imports this module."""
        from toys.checkpoints import vit

        if not (self.folder / "vit").exists():
            vit(self.folder / "vit")

    def _export(self, features: Path) -> None:
        target = self.folder / "store.tar"
        if not target.exists():
            name = next(path.name for path in (features / "features").glob("ngram*"))
            export = ("cache", "export", name, str(target), "--cache", str(features))
            self._fork(export, self.folder, features, Fault()).end()

    def _damaged(self, features: Path) -> Path:
        """A cache of which one row is damaged."""
        from pairfuse.features.part import open_part

        damaged = self.folder / "damaged"
        if not damaged.exists():
            shutil.copytree(features, damaged)
            part = min(damaged.glob("features/ngram*/parts/*.h5"))
            content = bytearray(part.read_bytes())
            content[open_part(part).offset] ^= 1
            part.write_bytes(content)
        return damaged

    def start(self, command: str, cache: Path, fault: Fault = Fault()) -> Running:
        given = [
            str(self.folder / "store.tar") if a == "store.tar" else a for a in COMMANDS[command]
        ]
        if command == "features" and not self.trains:
            given = ["features", *TEXT_ONLY]
        if command in STAGES:
            given += ["--data", str(self.data)]
        where = self.folder / "half" if command == "gc" else self.folder
        return self._fork([*given, "--cache", str(cache)], where, cache, fault)

    def _fork(self, given: Sequence[str], where: Path, cache: Path, fault: Fault) -> Running:
        self.runs += 1
        beside = self.folder / "said" / str(self.runs)
        beside.mkdir(parents=True)
        process = CONTEXT.Process(target=_child, args=(given, where, cache, beside, fault))
        process.start()
        return Running(process, beside)

    def copy(self, command: str) -> Path:
        self.finish(command)
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(self.begin(command), cache)
        if command == "ablate":  # encoders are measured once, not in each attack
            shutil.copytree(self.finish(command) / "costs", cache / "costs")
        return cache

    def calls(self, command: str) -> Mapping[str, float]:
        """How often an undisturbed run makes each kind of call, and its `seconds`."""
        if command not in self.counted:
            running = self.start(command, self.copy(command))
            assert running.end() == 0, running.stderr
            self.counted[command] = running.calls
        return self.counted[command]

    def judge(self, command: str, running: Running, code: int | None, before: Left) -> Outcome:
        """What became of a command, and of the same one run again."""
        cache, whole = self.folder / "cache", self.whole[command]
        kind, left = running.outcome(code), left_in(cache)
        told = running.stderr if kind in BAD else ""
        keep = before.rows.items() & whole.rows.items()
        lost = len(keep - left.rows.items())
        if kind == "survived" and left != whole:
            kind, told = "wrong", f"exit 0, but not the same: {_differences(left, whole)}"
        again = self.start(command, cache)
        code = again.end()
        second, left = again.outcome(code), left_in(cache)
        lost = max(lost, len(keep - left.rows.items()))
        if second != "survived":
            kind = second if second in BAD else "wrong"
            told += f"\n  run again, it ends with {code}: {again.stderr}"
        elif left != whole:
            kind, told = "wrong", f"{told}\n  run again: {_differences(left, whole)}"
        return Outcome(kind, lost, told)

    def fail(self, command: str, fault: Fault) -> Outcome | None:
        """Let calls fail; None where none came to its turn."""
        cache = self.copy(command)
        before = left_in(cache)
        running = self.start(command, cache, fault)
        code = running.end()
        if code is not None and code >= 0 and not running.calls.get("hits"):
            return None
        return self.judge(command, running, code, before)

    def send(self, command: str, name: str, moment: float) -> Outcome:
        """Send a signal after a share of the time that the command takes."""
        seconds = self.calls(command)["seconds"]
        cache = self.copy(command)
        before = left_in(cache)
        running = self.start(command, cache)
        running.wait_for_start()
        time.sleep(moment * seconds)
        assert running.process.pid is not None
        os.kill(running.process.pid, getattr(signal, name))
        if name == "SIGSTOP":
            time.sleep(0.2)
            os.kill(running.process.pid, signal.SIGCONT)
        return self.judge(command, running, running.end(), before)

    def meet(self, first: str, second: str) -> Outcome:
        """Two commands at once, where the earlier one can run; then all up to the later one."""
        order = list(COMMANDS)
        first, second = sorted((first, second), key=order.index)
        start = "features" if second == "import" else first
        cache = self.copy(start if first in STAGES else second)
        before = left_in(cache)
        both = [self.start(command, cache) for command in (first, second)]
        ends = [running.end() for running in both]
        kinds = [running.outcome(code) for running, code in zip(both, ends, strict=True)]
        told = "".join(
            running.stderr for running, kind in zip(both, kinds, strict=True) if kind in BAD
        )
        kind = max(kinds, key=COLUMNS.index)
        keep = before.rows.items()
        for command in {first, second} & {"gc", "verify"}:
            self.finish(command)
            keep &= self.whole[command].rows.items()
        lost = len(keep - left_in(cache).rows.items())
        last = second if second in STAGES else first
        if last not in STAGES:
            return Outcome(kind, lost, told)
        for command in list(STAGES)[: list(STAGES).index(last) + 1]:
            again = self.start(command, cache)
            code = again.end()
            if again.outcome(code) != "survived":
                return Outcome("wrong", lost, f"{told}\n  {command} then ends: {again.stderr}")
        self.finish(last)
        left, whole = left_in(cache), self.whole[last]
        if left.results != whole.results or not whole.rows.items() <= left.rows.items():
            kind, told = "wrong", f"{told}\n  then: {_differences(left, whole)}"
        return Outcome(kind, lost, told)


def _child(given: Sequence[str], where: Path, cache: Path, beside: Path, fault: Fault) -> None:
    """One command, with the library awake for as long as it works."""
    from pairfuse.cli import main
    from pairfuse.features import extraction

    os.chdir(where)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(beside / name, os.O_WRONLY | os.O_CREAT), number)
    extraction.COMMIT_SECONDS = 0  # a part for each batch, so that some are joined
    library = ctypes.CDLL(os.environ["LD_PRELOAD"])
    library.attack_begin(
        os.fsencode(cache),
        fault.call.encode(),
        ctypes.c_long(fault.at),
        fault.error,
        ctypes.c_double(fault.probability),
        ctypes.c_uint64(fault.seed),
    )
    for number in (signal.SIGHUP, signal.SIGTERM):  # `nohup`, or a shell, may have them ignored
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (beside / "ready").touch()
    start = time.perf_counter()
    code = main(given)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    library.attack_end()
    kinds = sorted({kind for each in ERRORS.values() for kind in each})
    counts = {kind: library.attack_counts(kind.encode()) for kind in kinds}
    more = {"hits": library.attack_hits(), "seconds": time.perf_counter() - start}
    (beside / "calls").write_text(json.dumps({**counts, **more}))
    (beside / "modules").write_text("\n".join(sys.modules))
    sys.exit(code)


def left_in(cache: Path) -> Left:
    """All rows that are proven, and the results of all runs."""
    from pairfuse.errors import DamageError
    from pairfuse.features.part import damaged_rows, open_part, read_unchecked

    rows = {}
    for path in cache.glob("features/*/parts/*.h5"):
        try:
            part = open_part(path)
            bad = set(damaged_rows(part).tolist())
        except DamageError:
            continue
        for number, values in enumerate(read_unchecked(part)):
            if number not in bad:
                rows[path.parents[1].name, part.keys[number].tobytes()] = values.tobytes()
    found = {path for pattern in RESULTS for path in cache.glob(f"runs/*/{pattern}")}
    return Left(rows, {str(path.relative_to(cache)): path.read_bytes() for path in found})


def _differences(left: Left, whole: Left) -> str:
    names = sorted(left.results.keys() | whole.results.keys())
    other = [name for name in names if left.results.get(name) != whole.results.get(name)]
    return f"{len(left.rows)} of {len(whole.rows)} rows; other results: {other}"


def attacks(
    arena: Arena, command: str, attack: str, places: int, random: Random
) -> Iterator[tuple[str, Outcome | None]]:
    """Where each attack of a kind took place, and what it did.

    Args:
        arena: Where commands run.
        command: The command that is attacked.
        attack: One of `ATTACKS` but `pairs`.
        places: How many calls of each kind, or moments, at most; drawn if there are more.
        random: Draws them.
    """
    if attack in SIGNALS:
        for _ in range(places):
            moment = random.random()
            yield f"at {moment:.2f} of its time", arena.send(command, attack, moment)
    elif attack == RANDOM:
        for _ in range(places):
            seed = random.randrange(2**32)
            fault = Fault(probability=PROBABILITY, seed=seed)
            yield f"seed {seed}", arena.fail(command, fault)
    else:
        calls = arena.calls(command)
        for call in ERRORS[attack]:
            every = range(1, int(calls[call]) + 1)
            for at in sorted(random.sample(every, min(places, len(every)))):
                fault = Fault(call, at, getattr(errno, attack))
                yield f"{call} {at} of {len(every)}", arena.fail(command, fault)


def run_all(
    arena: Arena,
    only: Sequence[str],
    chosen: Sequence[str],
    places: int,
    seed: int,
    counts: dict[str, Counter[str]],
) -> None:
    """Add to the counts of each attack; what went wrong is told on stderr as it is found."""

    def note(attack: str, where: str, found: Outcome | None) -> None:
        if found is None:
            return
        counts[attack].update({"tried": 1, found.kind: 1, "lost rows": found.lost})
        if found.kind in BAD or found.lost:
            kind = f"{found.kind}, {found.lost} rows lost"
            print(f"  {attack} {where}: {kind}: {found.told.strip()[-1500:]}", file=sys.stderr)

    for command in only:
        start = time.perf_counter()
        for attack in [each for each in chosen if each != PAIRS]:
            random = Random(f"{seed} {command} {attack}")
            for where, found in attacks(arena, command, attack, places, random):
                note(attack, f"{command} {where}", found)
        print(f"{command}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    if PAIRS in chosen:
        for first, second in combinations_with_replacement(only, 2):
            note(PAIRS, f"{first} beside {second}", arena.meet(first, second))


def show(counts: Mapping[str, Counter[str]]) -> None:
    """The table of attacks."""
    print(f"{'attack':<10}" + "".join(f"{column:>11}" for column in COLUMNS))
    for attack, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{attack:<10}" + "".join(f"{found[column]:>11}" for column in COLUMNS), flush=True)


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--quick", action="store_true", help="one place for each kind of call")
    asked.add_argument("--places", type=int, default=8, help="of each kind of call, at most (8)")
    asked.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    asked.add_argument("--attacks", nargs="+", default=list(ATTACKS), choices=ATTACKS)
    asked.add_argument("--seed", type=int, default=0, help="draws places and moments (0)")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        if "LD_PRELOAD" not in os.environ:
            library = compiled(folder)
            if library is None:
                print("no C compiler: nothing attacked")
                return 0
            again = [sys.executable, *sys.argv]
            own = {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
            return subprocess.call(again, env={**os.environ, **own})
        places = 1 if given.quick else given.places
        trains = any(command in list(STAGES)[1:] for command in given.only)
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        arena = Arena(folder, trains=trains)
        try:
            run_all(arena, given.only, given.attacks, places, given.seed, counts)
        except KeyboardInterrupt:
            print("stopped: what was tried so far", file=sys.stderr)
    show(counts)
    return int(any(found[column] for found in counts.values() for column in BAD))


if __name__ == "__main__":
    raise SystemExit(main())
