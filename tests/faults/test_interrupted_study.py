"""Interrupted tuning and training: no finished trial is lost, no half model is ever used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random
from time import perf_counter

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from pairfuse.data.demo import draw_demo
from pairfuse.errors import CheckpointError
from pairfuse.fusion.checkpoint import load_checkpoint
from toys.faults import FaultCounts, Faults, Place

ENCODERS = ("--encoders", "ngram", "--device", "cpu")
STUDY = (*ENCODERS, "--folds", "2", "--n-models", "1", "--trials", "4", "--set", "recipe.epochs=3")
#: Kills in every run of the tests, and in the whole one; 0 is one for each change of the disk.
KILLS = [1, pytest.param(50, marks=pytest.mark.faults)]
STEPS = [1, pytest.param(0, marks=pytest.mark.faults)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A drawn data set, its features, and a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("study")
    draw_demo(folder / "toy", pairs=60, test_pairs=6)
    place = Place(folder / "toy", folder / "cache")
    for command in ("tune", "train"):
        code, said = place.run(command, *STUDY)
        assert code == 0, said
    return place


def fresh(drawn: Place, folder: Path, *, with_run: bool) -> Place:
    """The features, and if wanted the finished run, in a cache of its own."""
    what = "cache" if with_run else "cache/features"
    shutil.copytree(drawn.beside / what, folder / what)
    return Place(drawn.root, folder / "cache")


def run_folder(place: Place) -> Path:
    return place.cache / "runs" / "toy"


def trials(place: Place) -> list[optuna.trial.FrozenTrial]:
    """What the journal holds, as a reader of it finds it."""
    journal = run_folder(place) / "study.log"
    if not journal.is_file() or not journal.stat().st_size:
        return []
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    return [t for name in names for t in optuna.load_study(study_name=name, storage=storage).trials]


def finished(place: Place) -> dict[int, float | None]:
    return {trial.number: trial.value for trial in trials(place) if trial.state.name == "COMPLETE"}


def ended(place: Place) -> int:
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials(place))


def lasts(drawn: Place, folder: Path, command: str) -> float:
    place = fresh(drawn, folder, with_run=command == "train")
    start = perf_counter()
    assert place.run(command, *STUDY)[0] == 0
    return perf_counter() - start


def check_tuning(place: Place, whole: Place, tally: FaultCounts) -> None:
    """The study goes on, keeps what was finished, ends where the undisturbed one ended."""
    before = finished(place)
    code, said = place.run("tune", *STUDY)
    assert code == 0, said
    after = finished(place)
    assert before.items() <= after.items()
    assert ended(place) == 4
    assert not [trial for trial in trials(place) if trial.state.name == "RUNNING"]
    assert max(v for v in after.values() if v is not None) > 0
    assert not place.rubbish()
    tally.tried, tally.survived = tally.tried + 1, tally.survived + 1
    tally.lost_rows += len(before.keys() - after.keys())
    shutil.rmtree(place.beside)


@pytest.mark.parametrize("kills", KILLS)
def test_tuning_killed_at_random_moments_loses_no_finished_trial(
    kills: int, drawn: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, random = FaultCounts("tune, killed at random moments"), Random(6)
    span = lasts(drawn, tmp_path / "timed", "tune")
    for number in range(kills):
        place = fresh(drawn, tmp_path / str(number), with_run=False)
        tally.killed += place.start("tune", *STUDY).kill_after(random.uniform(0, span))
        check_tuning(place, drawn, tally)
    with capsys.disabled():
        print(tally)


def check_training(place: Place, tally: FaultCounts) -> None:
    """The model is whole and of the scores beside it, or it is refused; training then mends it."""
    run = run_folder(place)
    code, said = place.run("predict")
    if code:
        with pytest.raises(CheckpointError, match="run `pairfuse train`") as refused:
            load_checkpoint(run / "model")
        assert f"error: {refused.value}" in said
        tally.refused += 1
    else:
        scores = json.loads((run / "scores.json").read_text("utf-8"))
        assert load_checkpoint(run / "model").scores == scores
    code, said = place.run("train", *STUDY, "--seed", "1")
    assert code == 0, said
    assert place.run("predict")[0] == 0
    assert not place.rubbish()
    tally.tried, tally.survived = tally.tried + 1, tally.survived + 1
    shutil.rmtree(place.beside)


@pytest.mark.parametrize("kills", KILLS)
def test_training_killed_at_random_moments_leaves_a_whole_model_or_none(
    kills: int, drawn: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, random = FaultCounts("train, killed at random moments"), Random(7)
    span = lasts(drawn, tmp_path / "timed", "train")
    for number in range(kills):
        place = fresh(drawn, tmp_path / str(number), with_run=True)
        command = place.start("train", *STUDY, "--seed", "1")
        tally.killed += command.kill_after(random.uniform(0, span))
        check_training(place, tally)
    with capsys.disabled():
        print(tally)


@pytest.mark.parametrize("kills", STEPS)
def test_training_killed_at_each_change_of_the_disk_leaves_a_whole_model_or_none(
    kills: int, drawn: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = FaultCounts("train, killed at each write, fsync, rename")
    timed = fresh(drawn, tmp_path / "timed", with_run=True)
    assert timed.run("train", *STUDY, "--seed", "1")[0] == 0
    every = range(1, len(timed.steps) + 1)
    for number in Random(8).sample(every, kills) if kills else every:
        place = fresh(drawn, tmp_path / str(number), with_run=True)
        code, said = place.run("train", *STUDY, "--seed", "1", faults=Faults(kill_at=number))
        assert code == -9, said
        tally.killed += 1
        check_training(place, tally)
    with capsys.disabled():
        print(tally)


def test_a_torn_line_in_the_journal_costs_no_trial(drawn: Place, tmp_path: Path) -> None:
    place = fresh(drawn, tmp_path / "own", with_run=True)
    before = finished(place)
    with (run_folder(place) / "study.log").open("ab") as journal:
        journal.write(b'{"op_code":5,"worker_id":"')
    for _ in range(2):
        code, said = place.run("tune", *STUDY)
        assert code == 0, said
    assert finished(place) == before


def test_two_that_tune_in_one_run_folder_end_well_and_lose_no_trial(
    drawn: Place, tmp_path: Path
) -> None:
    place = fresh(drawn, tmp_path / "own", with_run=False)
    both = [place.start("tune", *STUDY) for _ in range(2)]
    for command in both:
        assert command.end() == 0, command.said
    assert ended(place) == 4
    assert not [trial for trial in trials(place) if trial.state.name in ("RUNNING", "FAIL")]
