"""README and guides are true: tables come from the code, code runs, commands and flags exist."""

from __future__ import annotations

import configparser
import doctest
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.tables import DOCUMENTS, GUIDES, ROOT, commands, regenerated
from pairfuse.cli import build_parser
from pairfuse.commands.help import TOPICS
from pairfuse.config import load_config, parse_setting
from pairfuse.data.demo import draw_demo
from pairfuse.data.readers import READERS
from pairfuse.encoders import ENCODERS
from pairfuse.fusion.heads import HEADS

README = ROOT / "README.md"
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z][\w-]*):(?!=)", MAKEFILE, re.MULTILINE)
TEXTS = {path.name: path.read_text("utf-8") for path in DOCUMENTS}
CONSOLE = [
    (name, line.removeprefix("$ "))
    for name, text in TEXTS.items()
    for block in re.findall(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("$ ")
]
SPANS = sorted({span for text in TEXTS.values() for span in re.findall(r"`([^`\n]+)`", text)})
#: Pairs of the data set on which documented code runs.
PAIRS = 60


def known_flags() -> set[str]:
    """Every flag of every command."""
    found = set()
    waiting = [build_parser()]
    while waiting:
        for action in waiting.pop()._actions:
            found.update(action.option_strings)
            waiting += getattr(action.choices, "values", list)()
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_tables_are_those_of_the_code(name: str) -> None:
    assert regenerated(TEXTS[name]) == TEXTS[name], "stale: run `make docs`"


def test_the_readme_is_short() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 200


def test_the_readme_names_every_command_encoder_head_reader_and_guide() -> None:
    names = [*commands(), *ENCODERS, *HEADS, *READERS]
    assert [name for name in names if f"`{name}`" not in TEXTS["README.md"]] == []
    assert [topic for topic in TOPICS if f"guides/{topic}.md" not in TEXTS["README.md"]] == []


def test_every_flag_is_in_a_guide() -> None:
    manual = "\n".join(TEXTS.values())
    everywhere = {"-h", "--help", "--version", "--verbose"}
    missing = [f for f in known_flags() - everywhere if not re.search(rf"`{f}\b", manual)]
    assert missing == []


@pytest.mark.parametrize(("name", "line"), CONSOLE)
def test_console_lines_can_be_typed(name: str, line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "pairfuse":
        parsed = build_parser().parse_args(arguments)
        load_config(None, dict(parse_setting(text) for text in getattr(parsed, "set", [])))
    elif program == "make":
        variables = [word.split("=")[0] for word in arguments if "=" in word]
        assert [word for word in variables if f"$({word})" not in MAKEFILE] == []
        assert {word for word in arguments if "=" not in word} <= set(TARGETS)
    else:
        assert line == "pip install ."


def test_commands_and_flags_in_sentences_exist() -> None:
    flags, wrong = known_flags(), []
    for words in map(str.split, SPANS):
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        if words[0] == "pairfuse" and len(words) > 1:
            given |= {words[1]} - {"COMMAND"}
        if words[0] == "make" and len(words) > 1 and words[1] not in TARGETS:
            wrong.append(words)
        if not given <= flags | set(commands()):
            wrong.append(words)
    assert wrong == []


def test_links_and_pictures_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\(([^)#]+)\)", TEXTS[path.name]):
            assert link.startswith("https://") or (path.parent / link).is_file(), link
    tested = re.findall(r"`(tests/[\w./]+)`", TEXTS["cache.md"])
    assert tested
    assert [place for place in tested if not (ROOT / place).is_file()] == []


def test_guides_are_part_of_the_installation() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    shipped = setup["options.package_data"]["pairfuse"].replace(",", " ").split()
    endings = {path.suffix for path in GUIDES.iterdir()}
    assert endings <= {Path(each).suffix for each in shipped if each.startswith("guides/")}


def test_make_help_lists_every_target() -> None:
    said = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert TARGETS
    assert [target for target in TARGETS if not re.search(rf"\b{target}\b", said)] == []


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small demo set in data/demo, as after `make demo`."""
    folder = tmp_path_factory.mktemp("docs")
    draw_demo(folder / "data" / "demo", pairs=PAIRS, test_pairs=10)
    return folder


@pytest.fixture
def place(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder as the current one; rows that examples add to tables are taken back."""
    monkeypatch.chdir(demo_folder)
    rows = dict(ENCODERS)
    yield demo_folder
    ENCODERS.clear()
    ENCODERS.update(rows)


@pytest.mark.parametrize("name", [name for name, text in TEXTS.items() if ">>> " in text])
@pytest.mark.usefixtures("place")
def test_examples_give_what_is_printed(name: str) -> None:
    code = "\n".join(
        re.findall(r"^```python\n(>>> .*?)^```", TEXTS[name], re.DOTALL | re.MULTILINE)
    )
    example = doctest.DocTestParser().get_doctest(code, {}, name, str(name), 0)
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert result.attempted
    assert not result.failed, "".join(said)


@pytest.mark.usefixtures("place")
def test_the_lines_of_python_in_the_readme_run(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```", TEXTS["README.md"], re.DOTALL | re.MULTILINE)
    assert "trials=20" in code
    quick = code.replace("trials=20", "trials=1, cv=2, repeats=1, n_models=1")
    exec(compile(quick, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "text-only" in said
    assert Path("report.html").is_file()
