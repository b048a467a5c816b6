"""Workspace: what extraction finds unreadable is missing for all that follows, at once."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from pairfuse.commands.workspace import Workspace
from pairfuse.config import EMBEDDED, load_config
from pairfuse.encoders.defaults import resolve_encoders
from pairfuse.errors import DataError
from pairfuse.features import prefetch
from toys.commands import edit_json, read_rows, run_command
from toys.encoders import ToyEncoder
from toys.published import WRITERS


def workspace_at(root: Path, cache: Path, **data: object) -> Workspace:
    """A workspace with the n-gram and the small image encoder."""
    options = {f"data.{key}": value for key, value in {"root": str(root), **data}.items()}
    encoders = ["ngram", "efficientnet-lite0"]
    return Workspace(
        load_config(None, {**options, "cache": str(cache), "features.encoders": encoders})
    )


def refuse(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> list[bytes]:
    """Let these images fail when they are decoded in full; what failed is listed."""
    bad = {path.read_bytes() for path in paths}
    decode, failed = prefetch.open_image, []

    def open_image(data: bytes, **options: Any) -> Any:
        if data in bad:
            failed.append(data)
            raise DataError("cannot be decoded (broken)")
        return decode(data, **options)

    monkeypatch.setattr(prefetch, "open_image", open_image)
    return failed


@pytest.mark.parametrize(
    ("layout", "metric"),
    [("vqa", "vqa_accuracy"), ("hateful-memes", "auroc"), ("mvsa", "accuracy")],
)
def test_a_search_is_for_what_the_publishers_score_by(
    layout: str, metric: str, tmp_path: Path
) -> None:
    root = WRITERS[layout](tmp_path / "set")
    assert Workspace(load_config(None, {"data.root": str(root)})).metric == metric


def test_an_image_that_only_full_decoding_refuses_is_missing_in_the_first_table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_at(root, tmp_path)
    bad = workspace.first_look.split("train")[3]
    assert bad.image is not None
    refuse(monkeypatch, bad.image)
    views = workspace.table.views
    there = [pair.image is not None for pair in workspace.first_look.split("train")]
    there[3] = False
    assert views.present["efficientnet-lite0"].tolist() == there
    assert workspace.dataset.split("train")[3].image is None
    assert workspace_at(root, tmp_path).first_look.split("train")[3].image is None


def test_an_image_that_one_encoder_cannot_read_is_not_shown_to_the_next(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_at(root, tmp_path)
    pairs = workspace.first_look.pairs[:3]
    assert pairs[0].image is not None
    failed = refuse(monkeypatch, pairs[0].image)
    extracted = workspace.extract([ToyEncoder(modality="image"), *workspace.encoders], pairs)
    assert len(failed) == 1
    assert [len(result.failed) for result in extracted.results] == [1, 0, 0]
    assert [pair.image is None for pair in extracted.pairs] == [True, False, False]


def test_an_image_that_a_joint_encoder_cannot_read_counts_as_missing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_at(root, tmp_path)
    pairs = workspace.first_look.pairs
    before = sum(pair.image is None for pair in pairs)
    refuse(monkeypatch, *(pair.image for pair in pairs[:3] if pair.image is not None))
    extracted = workspace.extract([ToyEncoder(modality="joint")], pairs[:3])
    assert sum(pair.image is None for pair in extracted.dataset.pairs) == before + 3


def test_train_works_at_once_where_an_image_only_fails_in_full_decoding(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [image] = [pair.image for pair in workspace_at(root, tmp_path).first_look.pairs[:1]]
    assert image is not None
    refuse(monkeypatch, image)
    assert run_command("train", root, tmp_path) == 0


def test_predict_flags_an_image_that_only_fails_in_full_decoding(
    root: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in (own / "features").glob("efficientnet-*/**/*.h5"):
        part.unlink()
    pair = workspace_at(root, own).first_look.split("test")[0]
    assert pair.image is not None
    refuse(monkeypatch, pair.image)
    assert run_command("predict", root, own) == 0
    first, second, *_ = read_rows(own / "runs" / "toy" / "test_probabilities.csv")
    assert (first["guid"], first["flags"], second["flags"]) == (pair.guid, "no-image", "")


def test_a_later_command_begins_with_what_an_earlier_one_extracted(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_at(root, tmp_path)
    image = workspace.first_look.pairs[0].image
    assert image is not None
    failed = refuse(monkeypatch, image)
    extracted = workspace.extract(workspace.encoders, workspace.first_look.pairs)
    later = workspace.with_dataset(extracted.dataset)
    assert later.dataset is extracted.dataset
    assert later.with_dataset(later.dataset) is later
    assert len(failed) == 1


def test_the_bound_on_pixels_is_the_one_that_was_configured(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounds: set[int] = set()
    decode = prefetch.open_image

    def open_image(data: bytes, *, max_pixels: int, draft: int) -> Any:
        bounds.add(max_pixels)
        return decode(data, max_pixels=max_pixels, draft=draft)

    monkeypatch.setattr(prefetch, "open_image", open_image)
    workspace = workspace_at(root, tmp_path, max_pixels=100_000_000)
    workspace.extract(workspace.encoders, workspace.first_look.pairs[:2])
    assert bounds == {100_000_000}


@pytest.mark.parametrize("command", ["check-data", "tune", "train", "ablate", "predict", "report"])
def test_a_run_of_other_data_is_refused(
    command: str, root: Path, own: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(copytree(root, tmp_path / "elsewhere" / "toy"))
    labels = (other / "train.txt").read_text("utf-8").splitlines()
    (other / "train.txt").write_text("\n".join(labels[:-1]) + "\n", "utf-8")
    before = (own / "runs" / "toy" / "config.toml").read_bytes()
    assert run_command(command, other, own) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"is the run of other data ({root}, not {other})" in last
    assert "--run toy-2" in last
    assert (own / "runs" / "toy" / "config.toml").read_bytes() == before


@pytest.mark.parametrize("damage", ["", '{"root": ', "[]", '{"root": 1, "digest": null}'])
def test_a_run_whose_data_are_not_known_for_damage_is_no_new_run(
    damage: str, root: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = own / "runs" / "toy" / "data.json"
    place.write_text(damage)
    assert run_command("train", root, own) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"{place}, which says of which data the run is, is damaged" in last
    assert "--run toy-2" in last
    assert place.read_text() == damage


def test_a_run_whose_data_cannot_be_told_just_now_is_not_taken_for_a_new_one(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace_at(root, tmp_path).begin()

    def failing(path: Path, **_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("pairfuse.commands.run_data.read_bytes", failing)
    with pytest.raises(OSError, match="Input/output error"):
        workspace_at(root, tmp_path).begin()


def test_data_that_were_moved_keep_their_run_and_a_named_run_predicts_any(
    root: Path, own: Path, tmp_path: Path
) -> None:
    other = Path(copytree(root, tmp_path / "elsewhere" / "toy"))
    assert run_command("predict", other, own) == 0
    labels = (other / "train.txt").read_text("utf-8").splitlines()
    (other / "train.txt").write_text("\n".join(labels[:-1]) + "\n", "utf-8")
    assert run_command("predict", other, own, "--run", "toy") == 0


def test_a_cost_measured_on_a_busy_machine_is_measured_anew_on_a_calm_one(
    root: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [path] = (own / "costs").glob("ngram-*.json")
    edit_json(path, lambda found: found.update(seconds=154.0, load=3.0))
    workspace = workspace_at(root, own)
    encoder = workspace.encoders[0]
    monkeypatch.setattr("pairfuse.study.cost.machine_load", lambda: 3.0)
    assert workspace.encoder_costs([encoder])[0].seconds == 154
    monkeypatch.setattr("pairfuse.study.cost.machine_load", lambda: 0.5)
    assert workspace.encoder_costs([encoder])[0].seconds < 154
    assert json.loads(path.read_text("utf-8"))["load"] == 0.5


@pytest.mark.parametrize(
    ("text", "names", "word"),
    [
        ("the dog ran and they could not find it", (*EMBEDDED, "lexicon"), "are mostly English"),
        ("el perro corre por el parque", EMBEDDED, "are not mostly English"),
    ],
)
def test_the_run_records_the_encoders_that_auto_stands_for(
    text: str,
    names: tuple[str, ...],
    word: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = [f"{guid},{text} {guid},{'ab'[guid % 2]}" for guid in range(9)]
    table = tmp_path / "set" / "items.csv"
    table.parent.mkdir()
    table.write_text("\n".join(["guid,text,label", *lines]))
    workspace = Workspace(
        load_config(None, {"data.root": str(table), "cache": str(tmp_path / "cache")})
    )
    workspace.begin()
    kept = load_config(workspace.folder / "config.toml", {}).features.encoders
    assert kept == names
    assert tuple(each.name for each in workspace.encoders) == names
    workspace.with_dataset(replace(workspace.first_look)).begin()
    assert capfd.readouterr().err.count(word) == 1


def test_named_encoders_stay_as_named_and_no_text_is_looked_at() -> None:
    def texts() -> list[str]:
        raise AssertionError

    assert resolve_encoders(("bert", "ngram"), texts) == ("bert", "ngram")
    assert resolve_encoders(("clip", "auto"), list) == ("clip", *EMBEDDED)
