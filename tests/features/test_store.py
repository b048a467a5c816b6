from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pairfuse.arrays import Floats
from pairfuse.errors import StoreError
from pairfuse.features import store as store_module
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.upkeep import list_stores, remove_store, verify_stores
from pairfuse.files import STALE_AFTER
from toys.encoders import ToyEncoder, toy_features


def key(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


def features(numbers: Sequence[int]) -> Floats:
    return np.stack([toy_features(key(number)) for number in numbers])


def add(store: FeatureStore, numbers: Sequence[int]) -> None:
    store.add([key(number) for number in numbers], features(numbers))


def read(store: FeatureStore, numbers: Sequence[int]) -> Floats:
    return store.read([key(number) for number in numbers])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return open_store(tmp_path, ToyEncoder())


def flip_a_feature(path: Path, number: int) -> None:
    data = path.read_bytes()
    place = data.index(toy_features(key(number)).tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def many_parts(store: FeatureStore, count: int = 12, rows: int = 3) -> list[int]:
    for start in range(0, count * rows, rows):
        add(store, range(start, start + rows))
    return list(range(count * rows))


def test_rows_are_read_back_bit_for_bit_in_the_order_asked(store: FeatureStore) -> None:
    add(store, [0, 1, 2])
    add(store, [3, 4])
    order = [4, 0, 3, 0, 2, 1]
    assert read(store, order).tobytes() == features(order).tobytes()
    assert len(store) == 5


def test_no_keys_give_no_rows(store: FeatureStore) -> None:
    assert read(store, []).shape == (0, 4)


def test_rows_are_found_by_key_in_whatever_order_they_were_added(tmp_path: Path) -> None:
    forth, back = (open_store(tmp_path / name, ToyEncoder()) for name in ("forth", "back"))
    add(forth, [0, 1, 2, 3])
    add(back, [3, 2])
    add(back, [1, 0])
    assert (read(forth, range(4)) == read(back, range(4))).all()


def test_another_store_object_sees_what_was_added(store: FeatureStore, tmp_path: Path) -> None:
    other = open_store(tmp_path, ToyEncoder())
    add(store, [0, 1])
    assert key(0) not in other
    other.refresh()
    assert key(0) in other
    assert (read(other, [1, 0]) == read(store, [1, 0])).all()
    assert len(open_store(tmp_path, ToyEncoder())) == 2


def test_a_missing_row_is_an_error_that_counts_them(store: FeatureStore) -> None:
    add(store, [0, 1])
    with pytest.raises(StoreError, match="does not hold 3 of 5 rows; run `pairfuse features`"):
        read(store, [0, 7, 8, 1, 9])


BAD_FEATURES = {
    "nan": np.array([[0, 1, np.nan, 3]]),
    "infinite": np.array([[0, 1, np.inf, 3]]),
    "too wide": np.zeros((1, 5)),
    "too narrow": np.zeros((1, 3)),
    "a row more": np.zeros((2, 4)),
    "flat": np.zeros(4),
}


@pytest.mark.parametrize("name", BAD_FEATURES)
def test_features_that_are_no_features_are_refused_and_nothing_is_written(
    name: str, store: FeatureStore
) -> None:
    with pytest.raises(StoreError, match=r"expected finite \(1, 4\)"):
        store.add([key(0)], BAD_FEATURES[name].astype(np.float32))
    assert len(store) == 0
    assert not store.folder.exists()


def test_the_same_rows_added_twice_are_one(store: FeatureStore, tmp_path: Path) -> None:
    other = open_store(tmp_path, ToyEncoder())
    add(store, [0, 1])
    add(other, [1, 0, 2])
    store.refresh()
    assert len(store) == 3
    assert (read(store, [0, 1, 2]) == features([0, 1, 2])).all()


def test_a_damaged_feature_is_refused_on_reading_and_its_neighbours_are_not(
    store: FeatureStore, tmp_path: Path
) -> None:
    add(store, [0, 1])
    flip_a_feature(store.parts[0].path, 1)
    again = open_store(tmp_path, ToyEncoder())
    assert (read(again, [0]) == features([0])).all()
    with pytest.raises(StoreError, match="1 of 2 rows read are damaged"):
        read(again, [0, 1])


def test_a_cut_part_is_refused_on_opening(store: FeatureStore, tmp_path: Path) -> None:
    add(store, [0, 1])
    path = store.parts[0].path
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="is refused"):
        open_store(tmp_path, ToyEncoder())


def test_a_part_moved_in_from_another_encoder_is_refused(
    store: FeatureStore, tmp_path: Path
) -> None:
    other = open_store(tmp_path, ToyEncoder("other", made_from={"weights": "other"}))
    add(store, [0])
    add(other, [1])
    path = other.parts[0].path
    path.rename(store.folder / path.name)
    with pytest.raises(StoreError, match=r"it was made by other .*, not by toy"):
        store.refresh()


def test_stores_of_different_encoders_lie_apart_and_of_the_same_together(tmp_path: Path) -> None:
    def folder(**what: object) -> Path:
        return open_store(tmp_path, ToyEncoder(**what)).folder

    assert folder() == folder(batch_size=3)
    assert len({folder(), folder(dim=5), folder(made_from={"weights": "b"})}) == 3


def test_a_temporary_file_is_swept_when_old_and_left_when_fresh(store: FeatureStore) -> None:
    add(store, [0])
    old, fresh = store.folder / ".writing-1-old", store.folder / ".writing-2-fresh"
    for path in (old, fresh):
        path.write_bytes(b"half a part")
    long_ago = time.time() - 2 * STALE_AFTER
    os.utime(old, (long_ago, long_ago))
    store.sweep()
    store.refresh()
    assert not old.exists()
    assert fresh.exists()
    assert len(store) == 1


def test_a_half_written_part_is_no_part(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(source: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    add(store, [0])
    monkeypatch.setattr(Path, "replace", broken)
    with pytest.raises(StoreError, match=r"cannot write .*No space left.*run again to resume"):
        add(store, [1])
    store.refresh()
    assert len(store) == 1
    assert len(list(store.folder.iterdir())) == 1


def test_compaction_keeps_every_row_and_leaves_few_files(store: FeatureStore) -> None:
    numbers = many_parts(store)
    store.compact()
    assert len(list(store.folder.iterdir())) == len(store.parts) == 1
    assert read(store, numbers).tobytes() == features(numbers).tobytes()


def test_a_few_parts_are_left_as_they_are(store: FeatureStore) -> None:
    many_parts(store, store_module.COMPACT_ABOVE)
    store.compact()
    assert len(store.parts) == store_module.COMPACT_ABOVE


def test_compaction_makes_parts_no_larger_than_the_bound(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_PART_BYTES", 10 * 16)
    numbers = many_parts(store)
    store.compact()
    assert {len(part.keys) for part in store.parts} == {9}
    assert read(store, numbers).tobytes() == features(numbers).tobytes()


def test_compaction_keeps_a_row_once(store: FeatureStore, tmp_path: Path) -> None:
    other = open_store(tmp_path, ToyEncoder())
    numbers = many_parts(store)
    add(other, numbers)
    store.refresh()
    store.compact()
    assert sum(len(part.keys) for part in store.parts) == len(numbers)


def test_a_reader_that_listed_the_old_parts_still_reads_after_compaction(
    store: FeatureStore, tmp_path: Path
) -> None:
    numbers = many_parts(store)
    reader = open_store(tmp_path, ToyEncoder())
    store.compact()
    assert not any(part.path.exists() for part in reader.parts)
    assert read(reader, numbers).tobytes() == features(numbers).tobytes()


def test_compaction_of_a_damaged_part_stops_and_removes_nothing(store: FeatureStore) -> None:
    numbers = many_parts(store)
    part = store.parts[4]
    held = {row.tobytes() for row in part.keys}
    flip_a_feature(part.path, next(number for number in numbers if key(number) in held))
    before = sorted(store.folder.iterdir())
    with pytest.raises(StoreError, match="damaged"):
        store.compact()
    assert sorted(store.folder.iterdir()) == before


def test_two_compactions_at_once_lose_nothing(store: FeatureStore, tmp_path: Path) -> None:
    numbers = many_parts(store)
    other = open_store(tmp_path, ToyEncoder())
    store.compact()
    add(store, [100])
    other.refresh()
    other.compact()
    store.refresh()
    assert read(store, [*numbers, 100]).tobytes() == features([*numbers, 100]).tobytes()


def test_the_list_of_stores_counts_rows_parts_and_width(
    store: FeatureStore, tmp_path: Path
) -> None:
    add(store, [0, 1, 2])
    add(store, [2, 3])
    [facts] = list_stores(tmp_path)
    assert (facts.name, facts.rows, facts.parts, facts.dim) == (store.folder.parent.name, 4, 2, 4)
    assert facts.size == sum(path.stat().st_size for path in store.folder.iterdir())
    assert facts.damaged == ()


def test_no_cache_has_no_stores(tmp_path: Path) -> None:
    assert verify_stores(tmp_path / "absent") == []


def test_verify_finds_a_damaged_row_that_a_listing_does_not(
    store: FeatureStore, tmp_path: Path
) -> None:
    add(store, [0, 1])
    flip_a_feature(store.parts[0].path, 1)
    assert list_stores(tmp_path)[0].damaged == ()
    [reason] = verify_stores(tmp_path)[0].damaged
    assert "1 of 2 rows are damaged" in reason


def test_verify_finds_a_cut_a_renamed_and_a_strange_part(
    store: FeatureStore, tmp_path: Path
) -> None:
    for number in range(4):
        add(store, [number])
    cut, renamed, good = (store.parts[number].path for number in range(3))
    cut.write_bytes(cut.read_bytes()[:100])
    renamed.rename(renamed.with_name("f" * 32 + ".h5"))
    other = open_store(tmp_path / "other", ToyEncoder(made_from={"weights": "other"}))
    add(other, [9])
    other.parts[0].path.rename(store.folder / other.parts[0].path.name)
    [facts] = verify_stores(tmp_path)
    assert len(facts.damaged) == 3
    assert not any(good.name in reason for reason in facts.damaged)


def test_repair_removes_damaged_parts_alone(store: FeatureStore, tmp_path: Path) -> None:
    add(store, [0, 1])
    add(store, [2, 3])
    bad, good = (part.path for part in store.parts)
    bad.write_bytes(b"damage")
    [reason] = verify_stores(tmp_path, repair=True)[0].damaged
    assert str(bad) in reason
    assert [path.name for path in store.folder.iterdir()] == [good.name]
    assert verify_stores(tmp_path)[0].damaged == ()
    assert len(open_store(tmp_path, ToyEncoder())) == 2


def test_listing_and_verifying_remove_nothing(store: FeatureStore, tmp_path: Path) -> None:
    add(store, [0])
    store.parts[0].path.write_bytes(b"damage")
    list_stores(tmp_path)
    verify_stores(tmp_path)
    assert len(list(store.folder.iterdir())) == 1


def test_a_store_is_removed_by_its_name_alone(store: FeatureStore, tmp_path: Path) -> None:
    other = open_store(tmp_path, ToyEncoder("other"))
    add(store, [0])
    add(other, [0])
    remove_store(tmp_path, store.folder.parent.name)
    assert [facts.name for facts in list_stores(tmp_path)] == [other.folder.parent.name]


@pytest.mark.parametrize("name", ["absent", "", ".", "..", "../x", "../features", "toy*", "/tmp"])
def test_a_name_that_is_no_store_removes_nothing(
    name: str, store: FeatureStore, tmp_path: Path
) -> None:
    add(store, [0])
    (tmp_path / "x").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StoreError, match=r"no store .*see `pairfuse cache ls`"):
        remove_store(tmp_path, name)
    assert sorted(tmp_path.rglob("*")) == before
