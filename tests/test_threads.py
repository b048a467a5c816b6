"""Threads: those that wait sleep, small work takes one, and a number that was given is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pairfuse.fusion.training import train_stack
from pairfuse.threads import SMALL, VARIABLES, set_threads, threads_for
from toys.fusion import task


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine of two cores, with nothing said."""
    before = torch.get_num_threads()
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_small_work_takes_one_thread_and_gives_the_others_back() -> None:
    with threads_for(SMALL - 1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with threads_for(SMALL):
        assert torch.get_num_threads() == 2


def test_a_number_of_threads_that_was_given_holds_for_small_work_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # put back as they were
    set_threads(3)
    with threads_for(1):
        assert torch.get_num_threads() == 3


def test_a_command_lets_waiting_threads_sleep_and_passes_its_threads_on() -> None:
    code = (
        "import os, pairfuse.cli as cli\n"
        "cli.main(['ablate', '--threads', '1', '--data', '/nowhere'])\n"
        "import torch\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'])\n"
        "print(torch.get_num_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["PASSIVE", "1", "1"]


def test_what_is_learnt_does_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    for count in ("1", "2"):
        monkeypatch.setenv(VARIABLES[0], count)
        torch.set_num_threads(int(count))
        found.append(train_stack([task()]))
    for one, two in zip(*found, strict=True):
        for name, values in one.parameters.items():
            np.testing.assert_allclose(values, two.parameters[name], atol=1e-5)
