from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.resources import files

import pytest

from pairfuse.commands import help as help_command
from pairfuse.errors import ConfigError


def ran(*arguments: str) -> None:
    parser = argparse.ArgumentParser()
    help_command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["help", *arguments])
    parsed.run(parsed)


def test_without_a_topic_every_guide_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    ran()
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[2:]] == list(help_command.TOPICS)


def test_a_guide_is_printed_as_it_lies_in_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    ran("tokens")
    lines = files("pairfuse").joinpath("guides", "tokens.md").read_text("utf-8").splitlines()
    assert capsys.readouterr().out.splitlines() == lines


def test_marks_of_generated_tables_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    ran("heads")
    said = capsys.readouterr().out
    assert "<!--" not in said
    assert "| `gated` |" in said


def test_an_unknown_topic_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no guide about 'encoder'; did you mean encoders"):
        ran("encoder")


def test_every_guide_has_a_topic() -> None:
    folder = files("pairfuse").joinpath("guides")
    guides = [each.name for each in folder.iterdir() if each.name.endswith(".md")]
    assert sorted(guides) == sorted(f"{topic}.md" for topic in help_command.TOPICS)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse\n"
        "from pairfuse.commands import help\n"
        "print(help.contents(), file=sys.stderr)\n"
        "help.run(argparse.Namespace(topic='data'))\n"
        "heavy = {'torch', 'numpy', 'transformers', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("# Your own data")
