"""`pairfuse cache`: ls, verify, gc, export, import and rm of feature stores."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pairfuse.commands.flags import Subparsers, add_command
from pairfuse.console import columns, note, say
from pairfuse.errors import StoreError

if TYPE_CHECKING:
    from pairfuse.config import Config

#: Action and what it does in one line.
ACTIONS: Mapping[str, str] = {
    "ls": "list stores: rows, width, size, when and by which version they were made",
    "verify": "check every row of every store against its checksum",
    "gc": "drop the rows that no run and no data set in data/ uses; asks first",
    "export": "pack one store into one file for another machine",
    "import": "add an exported file; every row is verified first",
    "rm": "remove one store",
}


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "show, verify, export or remove stored features"
    command = add_command(commands, "cache", about, run)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, about in ACTIONS.items():
        action = actions.add_parser(name, help=about, description=about, allow_abbrev=False)
        action.add_argument("--cache", metavar="FOLDER", default="cache", help="default: cache")
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "verify":
            action.add_argument(
                "--repair", action="store_true", help="keep sound rows, remove damaged ones"
            )
        if name == "gc":
            action.add_argument(
                "--keep",
                nargs="+",
                metavar="FOLDER",
                default=[],
                help="other data sets in use",
            )
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name in {"rm", "export"}:
            action.add_argument("name", help="as `cache ls` shows it")
        if name in {"export", "import"}:
            action.add_argument("file", type=Path, help="a .tar file")


def run(parsed: argparse.Namespace) -> None:
    """Run one action.

    Raises:
        StoreError: Damage was found, or what was named is not there.
    """
    _ACTIONS[parsed.action](parsed)


def _ls(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import list_stores

    _report(parsed, list_stores(Path(parsed.cache)), proven=False)


def _verify(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import verify_stores

    _report(parsed, verify_stores(Path(parsed.cache), repair=parsed.repair), proven=True)


def _report(parsed: argparse.Namespace, stores: list[Any], *, proven: bool) -> None:
    from pairfuse.features.upkeep import DAMAGED

    damaged = [reason for facts in stores for reason in facts.damaged]
    lost = [f"row {key}" for facts in stores for key in facts.lost]
    if parsed.json:
        say(json.dumps([asdict(facts) for facts in stores], indent=2))
    else:
        lines = columns([_cells(facts) for facts in stores], right={1, 2, 3, 4})
        for line, facts in zip(lines, stores, strict=True):
            say(line)
            if remarks := _remarks(facts, proven=proven):
                say(f"  {remarks}")
        if not stores:
            say(f"no features in {parsed.cache}")
    if damaged and proven and parsed.repair:
        if not parsed.json:
            say(
                f"set {len(damaged)} damaged parts aside in the stores' folders {DAMAGED}/ (until "
                "`pairfuse cache gc`); run `pairfuse features` for what was lost"
            )
        return
    if damaged:
        shown = [*damaged, *lost[:20], *(["..."] if len(lost) > 20 else [])]
        raise StoreError("\n  ".join([f"{len(damaged)} damaged parts in {parsed.cache}", *shown]))


def _cells(facts: Any) -> tuple[str, ...]:
    size = facts.size / 2**20
    return (
        facts.name,
        f"{facts.rows} rows",
        f"x {facts.dim}",
        f"{size:.1f} MB",
        f"{facts.parts} parts",
        facts.created[:16].replace("T", " "),
        facts.version,
    )


def _remarks(facts: Any, *, proven: bool) -> str:
    """What there is to say of a store beside its numbers."""
    remarks = [f"{facts.tokens} tokens"] if facts.tokens else []
    if facts.set_aside:
        remarks.append(f"{facts.set_aside} damaged parts set aside")
    if proven and not facts.damaged:
        speed = facts.size / 2**20 / max(facts.seconds, 1e-6)
        remarks.append(f"every row verified, {speed:.0f} MB/s")
    return ", ".join(remarks)


def _gc(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import thin_out

    cache, used = Path(parsed.cache), _used_keys(parsed)
    unused = thin_out(cache, used, remove=False)
    rows = sum(each.rows for each in unused.values())
    damaged = sum(each.set_aside for each in unused.values())
    found = {name: asdict(each) for name, each in unused.items()}
    if not rows and not damaged:
        _say_or_json(parsed, found, "every row is used by a data set: nothing to drop")
        return
    size = sum(each.size for each in unused.values()) / 2**20
    what = f"{rows} rows that no data set uses and {damaged} damaged parts set aside"
    if not parsed.yes:
        cells = [
            (name, f"{each.rows}", "unused rows,", f"{each.set_aside}", "damaged parts set aside")
            for name, each in unused.items()
        ]
        for line in columns(cells, right={1, 3}):
            note(line)
        note(f"drop {what}, {size:.1f} MB? [y/N] ")
        answer = sys.stdin.readline()
        if not answer:
            raise StoreError(f"nothing dropped: there are {what}; add --yes to drop them")
        if answer.strip().lower() not in {"y", "yes"}:
            say("nothing dropped")
            return
    thin_out(cache, used, remove=True)
    _say_or_json(parsed, found, f"dropped {what}: {size:.1f} MB are free")


def _used_keys(parsed: argparse.Namespace) -> set[bytes]:
    """Keys of all contents of the data sets of all runs, of those in data/ and of --keep.

    Raises:
        PairfuseError: A data set cannot be read, so that what it needs is not known.
    """
    from pairfuse.commands.workspace import Workspace
    from pairfuse.config import load_config
    from pairfuse.data.pairs import Modality
    from pairfuse.features.extraction import contents
    from pairfuse.files import listed

    configs = [_config_of_run(folder) for folder in listed(Path(parsed.cache) / "runs", "*")]
    known = [config for config in configs if config is not None]
    roots = {Path(config.data.root).resolve() for config in known}
    folders = [path for path in listed(Path("data"), "*") if path.is_dir()]
    known += [
        load_config(None, {"data.root": str(root)})
        for root in dict.fromkeys([*folders, *(Path(folder) for folder in parsed.keep)])
        if root.resolve() not in roots  # a run knows how its data are read
    ]
    used: set[bytes] = set()
    for config in known:
        dataset = Workspace(replace(config, cache=parsed.cache)).every_pair
        note(f"in use    {config.data.root}: {len(dataset.pairs)} pairs")
        for modality in get_args(Modality):
            used |= contents(dataset, modality).keys()
    return used


def _config_of_run(folder: Path) -> Config | None:
    """How a run reads its data, which are looked for where they lay; none where there is no run."""
    from pairfuse.commands.run_data import read_data
    from pairfuse.config import load_config

    path = folder / "config.toml"
    if not path.exists():
        return None
    config, data = load_config(path, {}), read_data(folder)
    root = Path(data.root if data else config.data.root)
    if not root.exists():
        raise StoreError(
            f"{folder} is a run of {root}, which is not there, so that it is not known "
            "which rows it needs; bring it back, or remove the run's folder"
        )
    return replace(config, data=replace(config.data, root=str(root)))


def _export(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import export_store

    rows = export_store(Path(parsed.cache), parsed.name, parsed.file)
    found = {"store": parsed.name, "rows": rows, "file": str(parsed.file)}
    _say_or_json(parsed, found, f"packed {rows} rows of {parsed.name} into {parsed.file}")


def _import(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import import_store

    name, rows = import_store(Path(parsed.cache), parsed.file)
    found = {"store": name, "rows": rows, "file": str(parsed.file)}
    _say_or_json(parsed, found, f"imported {rows} rows into {name}, every row verified")


def _rm(parsed: argparse.Namespace) -> None:
    from pairfuse.features.upkeep import remove_store

    remove_store(Path(parsed.cache), parsed.name)
    folder = Path(parsed.cache) / "features" / parsed.name
    _say_or_json(parsed, {"removed": parsed.name}, f"removed {folder}")


def _say_or_json(parsed: argparse.Namespace, value: object, words: str) -> None:
    say(json.dumps(value, indent=2) if parsed.json else words)


_ACTIONS: Mapping[str, Callable[[argparse.Namespace], None]] = {
    "ls": _ls,
    "verify": _verify,
    "gc": _gc,
    "export": _export,
    "import": _import,
    "rm": _rm,
}
