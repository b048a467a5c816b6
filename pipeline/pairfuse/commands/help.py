"""`pairfuse help`: the manual, one guide a topic; the guides are files of the package."""

from __future__ import annotations

import argparse
import difflib
import re
from importlib.resources import files

from pairfuse.commands.flags import Subparsers, add_command
from pairfuse.console import say
from pairfuse.errors import ConfigError, shown

#: In the order in which somebody new would read them.
TOPICS = ("data", "encoders", "tokens", "heads", "evidence", "cache", "python", "extend", "speed")
_MARK = re.compile(r"^<!-- (?:generated: [\w./ -]+|end) -->\n", re.MULTILINE)
_PICTURE = re.compile(r"^!\[.*\]\(.*\)\n+", re.MULTILINE)


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "print a guide of the manual, or list the guides"
    command = add_command(commands, "help", about, run)
    command.add_argument("topic", nargs="?", metavar="TOPIC", help=", ".join(TOPICS))


def run(parsed: argparse.Namespace) -> None:
    """List the topics, or show one: through $PAGER on a terminal, as plain text elsewhere.

    Raises:
        ConfigError: There is no such topic.
    """
    if parsed.topic is None:
        say(contents())
        return
    text = guide(parsed.topic)
    from pydoc import pager  # imported where it is used: it takes 20 ms

    pager(text)


def contents() -> str:
    """One line a topic: its name and the title of its guide."""
    width = max(map(len, TOPICS))
    titles = {topic: guide(topic).splitlines()[0].removeprefix("# ") for topic in TOPICS}
    lines = [f"  {topic:<{width}}  {title}" for topic, title in titles.items()]
    return "\n".join(["Topics, as in `pairfuse help data`:", "", *lines])


def guide(topic: str) -> str:
    """The text of one guide, without what only a web page shows.

    Raises:
        ConfigError: There is no such topic.
    """
    if topic not in TOPICS:
        near = difflib.get_close_matches(topic, TOPICS, n=1)
        hint = f"did you mean {near[0]}" if near else f"choose one of {', '.join(TOPICS)}"
        raise ConfigError(f"no guide about {shown(topic)}; {hint}")
    text = files("pairfuse").joinpath("guides", f"{topic}.md").read_text("utf-8")
    return _PICTURE.sub("", _MARK.sub("", text))
