"""What can be typed is written down: commands, encoders, heads in the README, targets in help."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pairfuse.cli import COMMANDS
from pairfuse.commands.flags import FLAGS
from pairfuse.encoders import ENCODERS
from pairfuse.fusion.heads import HEADS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAKEFILE = ROOT / "Makefile"
FLAG_NAMES = [flag for group in FLAGS.values() for flag, _, _ in group]


def _words() -> set[str]:
    return set(re.findall(r"[A-Za-z0-9][\w.-]*[\w]|--[\w-]+", README.read_text("utf-8")))


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_in_the_readme(name: str) -> None:
    text = README.read_text("utf-8")
    assert re.search(rf"(pairfuse |make |\| ?|`)(\w+ )*{re.escape(name)}\b", text)


@pytest.mark.parametrize("name", list(ENCODERS))
def test_every_encoder_is_in_the_readme(name: str) -> None:
    assert name in _words()


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_is_in_the_readme(name: str) -> None:
    assert f"`{name}`" in README.read_text("utf-8")


def test_the_readme_names_no_flag_that_does_not_exist() -> None:
    known = {
        *(*FLAG_NAMES, "--config", "--set", "--out", "--help", "--version", "--verbose"),
        *("--json", "--repair", "--text", "--image", "--joint", "--cost-only", "--cascade"),
        *("--truth", "--world", "--noise"),
    }
    lines = README.read_text("utf-8").splitlines()
    ours = [line for line in lines if "pairfuse " in line]
    assert {flag for line in ours for flag in re.findall(r"(?<!\S)--[a-z-]+", line)} <= known


def test_make_help_lists_every_target() -> None:
    targets = re.findall(r"^([a-z][\w-]*):(?!=)", MAKEFILE.read_text("utf-8"), re.MULTILINE)
    said = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert targets
    assert [target for target in targets if not re.search(rf"\b{target}\b", said)] == []
