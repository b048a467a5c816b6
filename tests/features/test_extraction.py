from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import text_key
from pairfuse.errors import DataError, EncoderError, StoreError
from pairfuse.features import devices, extraction
from pairfuse.features import prefetch as inputs
from pairfuse.features.extraction import Content, Extraction, contents, extract
from pairfuse.features.store import FeatureStore, open_store
from toys.data import picture, saved, write_labels, write_set
from toys.encoders import Killed, ToyEncoder, toy_features

TRAIN = {str(number): ("positive", "negative")[number % 2] for number in range(8)}
TEST = ["8", "9"]


@pytest.fixture(params=["text", "image", "joint"])
def encoder(request: pytest.FixtureRequest) -> ToyEncoder:
    return ToyEncoder(modality=request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", TRAIN, TEST)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def extracted(root: Path, encoder: ToyEncoder, cache: Path) -> Extraction:
    wanted = contents(load_dataset(root), encoder.modality)
    return extract(wanted, encoder, open_store(cache, encoder), device="cpu", workers=2)


def texts(count: int) -> dict[bytes, Content]:
    return {text_key(f"text {number}"): f"text {number}" for number in range(count)}


def run(wanted: dict[bytes, Content], encoder: ToyEncoder, cache: Path, **how: Any) -> Extraction:
    return extract(wanted, encoder, open_store(cache, encoder), device="cpu", workers=1, **how)


def kept(cache: Path, wanted: dict[bytes, Content]) -> FeatureStore:
    """The store as a new process finds it; every row that is there is the right one."""
    store = open_store(cache, ToyEncoder())
    there = [key for key in wanted if key in store]
    expected = [toy_features(str(wanted[key]).encode()) for key in there]
    assert (store.read(there) == np.reshape(expected, (-1, 4))).all()
    return store


def edit_a_text(root: Path) -> None:
    path = root / "data" / "3.txt"
    path.write_bytes(path.read_bytes()[:-1] + b"!")


def save_an_image_again(root: Path) -> None:
    (root / "data" / "3.png").write_bytes(saved(picture(3), compress_level=0))


def rename_a_guid(root: Path) -> None:
    for ending in ("txt", "png"):
        (root / "data" / f"3.{ending}").rename(root / "data" / f"new.{ending}")
    write_labels(root / "train.txt", {"new" if g == "3" else g: t for g, t in TRAIN.items()})


def reorder(root: Path) -> None:
    write_labels(root / "train.txt", dict(reversed(TRAIN.items())))


def relabel(root: Path) -> None:
    write_labels(
        root / "train.txt", {g: t.replace("positive", "neutral") for g, t in TRAIN.items()}
    )


def touch(root: Path) -> None:
    for path in (root / "data").iterdir():
        os.utime(path, (0, 0))


def add_ten_pairs(root: Path) -> None:
    more = {f"more{number}": "positive" for number in range(10)}
    write_labels(root / "train.txt", {**TRAIN, **more})
    for number, guid in enumerate(more, 100):
        (root / "data" / f"{guid}.txt").write_text(f"text {guid}")
        (root / "data" / f"{guid}.png").write_bytes(saved(picture(number)))


def remove_a_pair(root: Path) -> None:
    write_labels(root / "train.txt", {g: t for g, t in TRAIN.items() if g != "3"})


def write_another_encoding(root: Path) -> None:
    path = root / "data" / "3.txt"
    path.write_bytes(path.read_bytes().decode().encode("utf-16"))


#: What is done to the data set, and the rows of (text, image) that it makes necessary.
EDITS: dict[str, tuple[Callable[[Path], None], tuple[int, int]]] = {
    "one byte of a text": (edit_a_text, (1, 0)),
    "an image saved again": (save_an_image_again, (0, 1)),
    "a guid renamed": (rename_a_guid, (0, 0)),
    "rows in another order": (reorder, (0, 0)),
    "other labels": (relabel, (0, 0)),
    "other times": (touch, (0, 0)),
    "ten pairs added": (add_ten_pairs, (10, 10)),
    "a pair removed": (remove_a_pair, (0, 0)),
    "the same text in another encoding": (write_another_encoding, (0, 0)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_costs_the_rows_whose_content_changed(
    edit: str, root: Path, cache: Path, encoder: ToyEncoder
) -> None:
    change, (text_rows, image_rows) = EDITS[edit]
    rows = {"text": text_rows, "image": image_rows, "joint": max(text_rows, image_rows)}
    assert extracted(root, encoder, cache).computed == encoder.rows == 10
    change(root)
    again = extracted(root, encoder, cache)
    assert again.computed == rows[encoder.modality]
    assert encoder.rows == 10 + again.computed
    assert again.cached + again.computed == again.wanted


def test_a_copied_folder_costs_nothing_and_loads_no_weights(
    root: Path, cache: Path, tmp_path: Path, encoder: ToyEncoder
) -> None:
    extracted(root, encoder, cache)
    again = extracted(Path(copytree(root, tmp_path / "copy")), encoder, cache)
    assert (again.wanted, again.cached, again.computed) == (10, 10, 0)
    assert encoder.loads == 1


def test_features_made_another_way_are_computed_anew_in_another_store(
    root: Path, cache: Path, encoder: ToyEncoder
) -> None:
    extracted(root, encoder, cache)
    changed = ToyEncoder(modality=encoder.modality, made_from={"weights": "toy", "pooling": "max"})
    assert extracted(root, changed, cache).computed == 10
    assert extracted(root, encoder, cache).computed == 0
    assert len(list((cache / "features").iterdir())) == 2


def test_identical_contents_are_encoded_once(root: Path, cache: Path, encoder: ToyEncoder) -> None:
    for guid in "1234":
        for ending in ("txt", "png"):
            data = (root / "data" / f"0.{ending}").read_bytes()
            (root / "data" / f"{guid}.{ending}").write_bytes(data)
    result = extracted(root, encoder, cache)
    assert (result.wanted, result.computed, encoder.rows) == (6, 6, 6)


def test_features_are_those_of_the_content(root: Path, cache: Path) -> None:
    encoder = ToyEncoder(modality="image")
    extracted(root, encoder, cache)
    dataset = load_dataset(root)
    key = dataset.key(dataset.pairs[3], "image")
    assert key is not None
    [row] = open_store(cache, encoder).read([key])
    assert (row == toy_features(picture(3).tobytes())).all()


def test_the_batch_size_does_not_change_the_features(cache: Path, tmp_path: Path) -> None:
    wanted = texts(20)
    for size in (1, 7, 20):
        run(wanted, ToyEncoder(), tmp_path / str(size), batch_size=size)
    rows = [kept(tmp_path / str(size), wanted).read(list(wanted)) for size in (1, 7, 20)]
    assert (rows[0] == rows[1]).all()
    assert (rows[0] == rows[2]).all()


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_a_run_that_was_killed_goes_on_where_it_stopped(
    batches: int, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    wanted = texts(40)
    with pytest.raises(Killed):
        run(wanted, ToyEncoder(dies_after=batches), cache)
    assert len(kept(cache, wanted)) == 8 * batches
    result = run(wanted, ToyEncoder(), cache)
    assert (result.cached, result.computed) == (8 * batches, 40 - 8 * batches)
    run(wanted, ToyEncoder(), tmp_path / "whole")
    resumed, whole = (
        kept(where, wanted).read(list(wanted)) for where in (cache, tmp_path / "whole")
    )
    assert resumed.tobytes() == whole.tobytes()


def test_killed_again_and_again_it_still_ends(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    wanted, encoder = texts(90), ToyEncoder()
    for already in range(11):
        encoder.dies_after = already + 1
        with pytest.raises(Killed):
            run(wanted, encoder, cache)
    encoder.dies_after = None
    assert run(wanted, encoder, cache).computed == 2
    assert encoder.rows == len(kept(cache, wanted)) == 90


def test_an_extraction_leaves_few_parts_and_no_rubbish_of_dead_writers(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    folder = open_store(cache, ToyEncoder()).folder
    folder.mkdir(parents=True)
    (folder / ".writing-1-dead").write_bytes(b"half a part")
    os.utime(folder / ".writing-1-dead", (0, 0))
    run(texts(90), ToyEncoder(), cache)
    assert len(kept(cache, texts(90))) == 90
    assert len(list(folder.iterdir())) == 1


def test_a_commit_ends_when_much_is_pending(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extraction, "COMMIT_BYTES", 16 * 16)
    run(texts(40), ToyEncoder(), cache)
    assert len(kept(cache, texts(40)).parts) == 2  # 24 rows are the first that are over 16


@pytest.mark.parametrize("memory", [1, 3, 5])
def test_out_of_memory_halves_the_batch_and_goes_on(
    memory: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_free_device_memory", lambda: None)
    encoder = ToyEncoder(memory=memory)
    assert run(texts(20), encoder, cache).computed == 20
    assert max(encoder.batches) == {1: 1, 3: 2, 5: 4}[memory]
    assert len(kept(cache, texts(20))) == 20


def test_out_of_memory_with_a_batch_of_one_is_an_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_free_device_memory", lambda: None)
    with pytest.raises(EncoderError, match="memory runs out with a batch of one; use --device cpu"):
        run(texts(3), ToyEncoder(memory=0), cache)


def test_another_error_of_the_network_is_not_taken_for_lack_of_memory(cache: Path) -> None:
    class Broken(ToyEncoder):
        def encode(self, batch: Sequence[Any]) -> Any:
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(texts(3), Broken(), cache)


def test_an_item_that_cannot_be_prepared_is_named_and_the_others_are_kept(cache: Path) -> None:
    result = run(texts(5), ToyEncoder(refuses=("text 2",)), cache)
    assert result.failed == {text_key("text 2").hex(): "text 2 is refused"}
    assert (result.computed, len(kept(cache, texts(5)))) == (4, 4)


def test_when_nothing_can_be_prepared_nothing_is_written(cache: Path) -> None:
    result = run(texts(1), ToyEncoder(refuses=("text 0",)), cache)
    assert (result.computed, len(result.failed)) == (0, 1)
    assert len(kept(cache, texts(1)).parts) == 0


IMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "changed": (lambda path: path.write_bytes(saved(picture(99))), "changed while it was read"),
    "removed": (lambda path: path.unlink(), "cannot be read"),
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("modality", ["image", "joint"])
def test_an_image_that_is_not_what_was_looked_at_is_not_encoded(
    modality: Any, name: str, root: Path, cache: Path
) -> None:
    change, reason = IMAGES[name]
    encoder, wanted = ToyEncoder(modality=modality), contents(load_dataset(root), modality)
    change(root / "data" / "3.png")
    result = run(wanted, encoder, cache)
    [told] = result.failed.values()
    assert reason in told
    assert (result.computed, encoder.rows) == (9, 9)


def test_an_image_over_the_bound_on_pixels_is_named(root: Path, cache: Path) -> None:
    wanted = contents(load_dataset(root), "image")
    encoder = ToyEncoder(modality="image")
    store = open_store(cache, encoder)
    result = extract(wanted, encoder, store, device="cpu", max_pixels=100)
    assert result.computed == 0
    assert all("over the bound" in reason for reason in result.failed.values())


def test_an_image_file_over_the_bound_on_bytes_is_named(root: Path, cache: Path) -> None:
    wanted = contents(load_dataset(root), "image")
    encoder = ToyEncoder(modality="image")
    store = open_store(cache, encoder)
    result = extract(wanted, encoder, store, device="cpu", max_image_bytes=100)
    assert result.computed == 0
    assert all("over the bound of 0.0001 MB" in reason for reason in result.failed.values())


def test_a_damaged_image_that_a_look_let_pass_is_named(root: Path, cache: Path) -> None:
    def refuse(data: bytes, *, max_pixels: int, draft: int) -> None:
        raise DataError("cannot be decoded (broken)")

    wanted = contents(load_dataset(root), "image")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "open_image", refuse)
        result = run(wanted, ToyEncoder(modality="image"), cache)
    assert set(result.failed) == {key.hex() for key in wanted}
    assert set(result.failed.values()) == {"cannot be decoded (broken)"}


def test_without_space_nothing_is_begun(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 100, 100)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    encoder = ToyEncoder()
    with pytest.raises(StoreError, match="0 MB are free; make room or name another folder"):
        run(texts(50), encoder, cache)
    assert (encoder.loads, encoder.batches) == (0, [])


def test_without_space_what_is_cached_can_still_be_had(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(texts(5), ToyEncoder(), cache)
    usage = namedtuple("usage", "total used free")(100, 100, 0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert run(texts(5), ToyEncoder(), cache).cached == 5


@pytest.mark.parametrize("place", [".", "features"])
def test_a_cache_that_cannot_be_written_is_an_error_before_any_work(
    place: str, tmp_path: Path
) -> None:
    blocked = tmp_path / "cache" / place
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("a file in place of the folder")
    encoder = ToyEncoder()
    with pytest.raises(StoreError, match=r"cannot write to .*name another folder with --cache"):
        run(texts(3), encoder, tmp_path / "cache")
    assert encoder.loads == 0


def test_a_full_disk_half_way_keeps_what_was_committed(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    whole, left = Path.replace, iter([True, True])

    def replace(source: Path, target: Path) -> Path:
        if next(left, False):
            return whole(source, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StoreError, match="No space left on device"):
        run(texts(40), ToyEncoder(), cache)
    monkeypatch.undo()
    assert len(kept(cache, texts(40))) == 16
    assert run(texts(40), ToyEncoder(), cache).computed == 24
