from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pairfuse
from pairfuse.cli import COMMANDS

PACKAGE = Path(pairfuse.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
#: From low to high; a room imports from itself and from lower rooms. Rooms of one row are level.
ROOMS = (
    ("", "errors"),
    ("arrays", "files", "console", "memory", "threads"),
    ("recipe",),
    ("config",),
    ("stats", "data"),
    ("encoders",),
    ("features",),
    ("fusion",),
    ("study",),
    ("report",),
    ("api",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
HEIGHT = {room: height for height, row in enumerate(ROOMS) for room in row}
HEAVY = ("torch", "transformers", "torchvision", "numpy", "PIL", "h5py", "sklearn", "optuna")


def dotted(path: Path) -> str:
    """`features.store` for features/store.py; empty for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix("__init__").rstrip(".")


NAMES = {dotted(path) for path in MODULES}


def room(name: str) -> str:
    return name.split(".")[0]


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that this one imports, inside functions too.

    The package itself names those that hold its public names for type checkers alone.
    """
    if path == PACKAGE / "__init__.py":
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} imports relatively"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in found:
            if name.split(".")[0] == "pairfuse":
                inner = name.removeprefix("pairfuse").lstrip(".")
                yield inner if inner in NAMES else inner.rpartition(".")[0]


@pytest.fixture(params=MODULES, ids=dotted)
def module(request: pytest.FixtureRequest) -> Path:
    return Path(request.param)


def test_a_module_imports_from_its_own_room_and_lower_ones(module: Path) -> None:
    own = room(dotted(module))
    for name in imports(module):
        lower = HEIGHT[room(name)] < HEIGHT[own]
        assert lower or room(name) == own, f"{dotted(module)} imports {name}"


def test_a_module_says_what_it_holds(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text("utf-8")))


def test_the_imports_are_found_inside_functions_too() -> None:
    assert "features.upkeep" in imports(PACKAGE / "commands" / "cache.py")
    assert "data.duplicates" in imports(PACKAGE / "data" / "images.py")


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {dotted(path): set(imports(path)) for path in MODULES}
    while leaves := {name for name, needed in graph.items() if not needed & graph.keys()}:
        for name in leaves:
            del graph[name]
    assert not graph, "each of these is on a circle or needs one"


def test_help_of_every_command_imports_nothing_heavy() -> None:
    code = (
        "import sys, pairfuse.cli\n"
        "asked = [[name, '--help'] for name in pairfuse.cli.COMMANDS]\n"
        "asked += [['--help'], ['--version'], ['cache', 'ls', '--help']]\n"
        "for arguments in asked:\n"
        "    try:\n"
        "        pairfuse.cli.main(arguments)\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_a_command_is_the_module_of_its_name() -> None:
    for name, module in COMMANDS.items():
        assert getattr(module, "__name__", "") == f"pairfuse.commands.{name.replace('-', '_')}"
