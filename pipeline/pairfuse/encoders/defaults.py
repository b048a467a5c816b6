"""Default encoders: those that `auto` stands for, by what the texts are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pairfuse.config import EMBEDDED
from pairfuse.console import note
from pairfuse.data.english import mostly_english

AUTO = "auto"


def resolve_encoders(names: Sequence[str], texts: Callable[[], Sequence[str]]) -> tuple[str, ...]:
    """The names with `auto` as what it stands for: the embedded ones, `lexicon` for English.

    Args:
        names: As a user gives them.
        texts: All texts of the data set; asked for only where their language matters.
    """
    if AUTO not in names:
        return tuple(names)
    found = texts()
    is_english = mostly_english(found)
    if is_english:
        note("features  the texts are mostly English: lexicon is one of the encoders")
    elif found:
        note("features  the texts are not mostly English: lexicon is not one of the encoders")
    defaults = (*EMBEDDED, "lexicon") if is_english else EMBEDDED
    return tuple(each for name in names for each in (defaults if name == AUTO else (name,)))
