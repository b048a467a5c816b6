"""Tables of the README and the guides, made from the code between marks; `make docs` writes them.

    <!-- generated: encoders -->
    (whatever stands here is replaced)
    <!-- end -->

`python tests/docs/tables.py` rewrites every file; `tests/test_docs.py` fails where one is stale.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pairfuse.cli import build_parser
from pairfuse.config import METRIC_NAMES, Config
from pairfuse.data.readers import READERS
from pairfuse.encoders import ENCODERS
from pairfuse.fusion import heads
from pairfuse.study.search_space import SEARCHED_HEADS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline" / "pairfuse"
GUIDES = PACKAGE / "guides"
DOCUMENTS = (ROOT / "README.md", *sorted(GUIDES.glob("*.md")))
#: Groups of flags that several commands share, as `--help` heads them.
SHARED = ("data", "features", "study", "run")
_BLOCK = re.compile(r"(<!-- generated: ([\w./ -]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def commands() -> Mapping[str, argparse.ArgumentParser]:
    """The parser of each command, in the order of `--help`."""
    return _subparsers(build_parser()).choices


def regenerated(text: str) -> str:
    """The text with every generated block made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}{_made(found[2])}\n{found[3]}", text)


def _made(name: str) -> str:
    kind, *arguments = name.split()
    return "\n".join(TABLES[kind](*arguments))


def _commands() -> Iterator[str]:
    listed = _subparsers(build_parser())._choices_actions
    return _table(("command", "what it does"), ((f"`{a.dest}`", a.help) for a in listed))


def _actions() -> Iterator[str]:
    listed = _subparsers(commands()["cache"])._choices_actions
    return _table(("`pairfuse cache`", "what it does"), ((f"`{a.dest}`", a.help) for a in listed))


def _flags(group: str) -> Iterator[str]:
    """Flags of one shared group, with the defaults of the configuration."""
    found = next(g for g in commands()["run"]._action_groups if g.title == group)
    rows = ((_flag(a), a.help, _default(a.dest)) for a in found._group_actions)
    return _table(("flag", "what it sets", "default"), rows)


def _own_flags(parent: str = "") -> Iterator[str]:
    """Flags that a command does not share with others; with a parent, those of its actions."""
    rows = [
        (f"`{name}`", _flag(action), action.help)
        for name, command in _leaves(build_parser())
        if name.startswith(f"{parent} ") or (not parent and " " not in name)
        for group in command._action_groups
        if group.title not in SHARED
        for action in group._group_actions
        if action.dest not in {"help", "verbose", "config", "set"}
    ]
    return _table(("command", "takes", "what it sets"), dict.fromkeys(rows))


def _encoders(how: str = "long") -> Iterator[str]:
    if how == "short":
        return _table(("reads", "encoders (those in bold need no download)"), _by_modality())
    rows = (
        (
            f"`{name}`",
            ", ".join(f"{modality} {width}" for modality, width in spec.views.values()),
            f"{spec.parameters / 1e6:.0f} M" if spec.parameters else "–",
            f"pip install {spec.install}" if spec.install else _place(spec.source),
            spec.licence or "not stated",
            spec.about,
        )
        for name, spec in ENCODERS.items()
    )
    return _table(("name", "views", "parameters", "weights", "licence", "what it is"), rows)


def _by_modality() -> Iterator[tuple[str, str]]:
    for modality in ("text", "image", "joint"):
        names = [
            f"**`{name}`**"
            if _place(spec.source) in {"bundled", "none"} and not spec.install
            else f"`{name}`"
            for name, spec in ENCODERS.items()
            if {kind for kind, _ in spec.views.values()} == {modality}
        ]
        yield "text and image together" if modality == "joint" else modality, ", ".join(names)
    both = [name for name, spec in ENCODERS.items() if len(spec.views) > 1]
    yield "text and image, a view each", ", ".join(f"`{name}`" for name in both)


def _heads() -> Iterator[str]:
    table = heads.HEADS
    rows = (
        (
            f"`{name}`",
            _first_line(spec.cls),
            spec.reads,
            "yes" if name in SEARCHED_HEADS else "if named",
        )
        for name, spec in table.items()
    )
    return _table(("head", "how it fuses", "reads", "searched"), rows)


def _readers(how: str = "long") -> Iterator[str]:
    if how == "short":
        rows: Iterable[Sequence[str]] = (
            (f"`{name}`", each.about, METRIC_NAMES[each.metric]) for name, each in READERS.items()
        )
        return _table(("reader", "reads", "scored by"), rows)
    rows = (
        (
            f"`{name}`",
            each.files,
            each.label,
            METRIC_NAMES[each.metric],
            " ".join(each.columns) or "–",
        )
        for name, each in READERS.items()
    )
    head = ("reader", "what lies in the folder", "label and text", "scored by", "`--columns`")
    return _table(head, rows)


def _source(module: str, *names: str) -> Iterator[str]:
    """Code of the package as a block: the whole module, or what it defines by these names."""
    code = (PACKAGE / module).read_text("utf-8")
    defined = {name: part for part in ast.parse(code).body for name in _names(part)}
    parts = [ast.get_source_segment(code, defined[name]) or "" for name in names] or [code.strip()]
    yield from ("```python", "\n\n\n".join(parts), "```")


def _names(part: ast.stmt) -> list[str]:
    if isinstance(part, ast.FunctionDef | ast.ClassDef):
        return [part.name]
    targets = [part.target] if isinstance(part, ast.AnnAssign) else getattr(part, "targets", [])
    return [target.id for target in targets if isinstance(target, ast.Name)]


TABLES: Mapping[str, Callable[..., Iterator[str]]] = {
    "commands": _commands,
    "actions": _actions,
    "flags": _flags,
    "own-flags": _own_flags,
    "encoders": _encoders,
    "heads": _heads,
    "readers": _readers,
    "source": _source,
}


def _table(head: Sequence[str], rows: Iterable[Sequence[str | None]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join((cell or "").replace("|", "\\|") for cell in row) + " |"


def _subparsers(command: argparse.ArgumentParser) -> Any:
    return next(a for a in command._actions if isinstance(a, argparse._SubParsersAction))


def _leaves(command: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command and every action of `cache`, by what one types."""
    for name, each in _subparsers(command).choices.items():
        if any(isinstance(action, argparse._SubParsersAction) for action in each._actions):
            yield from ((f"{name} {inner}", leaf) for inner, leaf in _leaves(each))
        else:
            yield name, each


def _flag(action: argparse.Action) -> str:
    named = action.option_strings[-1:] or []
    value = "" if action.nargs == 0 else action.metavar or action.dest.upper()
    more = " ..." if action.nargs == "+" else ""
    return f"`{' '.join([*named, str(value)]).strip()}{more}`"


def _default(key: str) -> str:
    """The default of a dotted key of the configuration, as one would type it."""
    value: Any = Config()
    for part in key.removeprefix("key:").split("."):
        value = getattr(value, part, None)
    if isinstance(value, tuple):
        value = " ".join(value)
    if value is False or value is None or value in ("", {}):
        return "–"
    return f"`{value}`"


def _place(source: str) -> str:
    if not source:
        return "none"
    if source.startswith("package:"):
        return "bundled"
    if source.startswith("https:"):
        return "torchvision"
    return f"[{source}](https://huggingface.co/{source})"


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0].rstrip(".")


def main() -> None:
    """Rewrite what is stale."""
    for path in DOCUMENTS:
        old = path.read_text("utf-8")
        new = regenerated(old)
        if new != old:
            path.write_text(new, "utf-8")
            print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
