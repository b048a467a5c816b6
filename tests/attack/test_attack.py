"""A share of the attack: no failing call costs a row or ends in a traceback."""

from __future__ import annotations

import errno
import shutil

import pytest

from attack.attack import Arena, compiled

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc")), reason="no C compiler"
)


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    folder = tmp_path_factory.mktemp("attack")
    library = compiled(folder)
    assert library is not None
    return Arena(folder, library)


@pytest.mark.parametrize(
    ("call", "error"), [("open", errno.EMFILE), ("read", errno.EIO), ("list", errno.EIO)]
)
def test_repair_loses_no_row_to_a_system_error(call: str, error: int, arena: Arena) -> None:
    found = list(arena.attack("verify", call, error, most=2))
    assert found
    assert {each.kind for each in found} <= {"survived", "one line"}
    assert not any(each.lost for each in found)
