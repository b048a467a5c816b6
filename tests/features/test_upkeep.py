"""Upkeep: sound rows are kept, lost ones are named, what comes from outside is proven first."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pairfuse.errors import StoreError
from pairfuse.features.store import FeatureStore
from pairfuse.features.upkeep import export_store, import_store, thin_out, verify_stores

NAME = "toy-" + "ab" * 4
ROWS = np.arange(24, dtype=np.float32).reshape(6, 4)


def key(number: int) -> bytes:
    return bytes([number]) * 32


def open_toy(cache: Path) -> FeatureStore:
    return FeatureStore(cache / "features" / NAME / "parts", "toy", "text", "ab" * 32, 4)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    toy = open_toy(tmp_path)
    toy.add([key(n) for n in range(4)], ROWS[:4])
    toy.add([key(4), key(5)], ROWS[4:])
    return toy


def damage_row(store: FeatureStore, number: int) -> None:
    """Flip one bit of one stored number."""
    [path] = [part.path for part in store.parts if len(part.keys) == 4]
    data = path.read_bytes()
    place = data.index(ROWS[number].tobytes())
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])


def test_verify_names_the_lost_row(store: FeatureStore, tmp_path: Path) -> None:
    damage_row(store, 2)
    [facts] = verify_stores(tmp_path)
    assert facts.lost == (key(2).hex(),)
    assert facts.rows == 5


def test_repair_keeps_the_sound_rows_of_a_damaged_part(store: FeatureStore, tmp_path: Path) -> None:
    damage_row(store, 2)
    verify_stores(tmp_path, repair=True)
    again = open_toy(tmp_path)
    assert again.missing([key(n) for n in range(6)]) == [key(2)]
    assert (again.read([key(3), key(0)]) == ROWS[[3, 0]]).all()
    assert verify_stores(tmp_path)[0].damaged == ()


def test_thinning_out_drops_unused_rows_alone(store: FeatureStore, tmp_path: Path) -> None:
    used = {key(1), key(5)}
    assert thin_out(tmp_path, used, remove=False)[NAME].rows == 4
    assert len(open_toy(tmp_path)) == 6
    thin_out(tmp_path, used, remove=True)
    again = open_toy(tmp_path)
    assert len(again) == 2
    assert (again.read([key(5), key(1)]) == ROWS[[5, 1]]).all()


def test_thinning_out_vouches_for_no_damaged_row(store: FeatureStore, tmp_path: Path) -> None:
    damage_row(store, 2)
    with pytest.raises(StoreError, match="rows read are damaged"):
        thin_out(tmp_path, {key(1), key(2)}, remove=True)
    assert verify_stores(tmp_path)[0].lost == (key(2).hex(),)
    thin_out(tmp_path, {key(1)}, remove=True)
    assert (open_toy(tmp_path).read([key(1)]) == ROWS[[1]]).all()


def test_thinning_out_removes_a_store_that_nothing_uses(
    store: FeatureStore, tmp_path: Path
) -> None:
    thin_out(tmp_path, set(), remove=True)
    assert not (tmp_path / "features" / NAME).exists()


def test_an_exported_store_is_the_same_on_another_machine(
    store: FeatureStore, tmp_path: Path
) -> None:
    assert export_store(tmp_path, NAME, tmp_path / "toy.tar") == 6
    assert import_store(tmp_path / "other", tmp_path / "toy.tar") == (NAME, 6)
    assert (open_toy(tmp_path / "other").read([key(n) for n in range(6)]) == ROWS).all()


def test_importing_twice_changes_nothing(store: FeatureStore, tmp_path: Path) -> None:
    export_store(tmp_path, NAME, tmp_path / "toy.tar")
    before = sorted(path.name for path in store.folder.iterdir())
    import_store(tmp_path, tmp_path / "toy.tar")
    assert sorted(path.name for path in store.folder.iterdir()) == before


def test_a_damaged_store_is_not_exported(store: FeatureStore, tmp_path: Path) -> None:
    damage_row(store, 0)
    with pytest.raises(StoreError, match="1 of 4 rows are damaged"):
        export_store(tmp_path, NAME, tmp_path / "toy.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features"]


def test_no_damaged_part_of_an_export_is_taken_over(store: FeatureStore, tmp_path: Path) -> None:
    export_store(tmp_path, NAME, tmp_path / "toy.tar")
    data = (tmp_path / "toy.tar").read_bytes().replace(ROWS[2].tobytes(), ROWS[5].tobytes())
    (tmp_path / "toy.tar").write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        import_store(tmp_path / "other", tmp_path / "toy.tar")
    kept = open_toy(tmp_path / "other")
    assert key(2) not in kept
    assert all(not facts.damaged for facts in verify_stores(tmp_path / "other"))


@pytest.mark.parametrize(
    "name", ["../../evil.h5", "/evil.h5", f"{NAME}/../evil.h5", f"{NAME}/evil.h5", "evil"]
)
def test_an_export_with_a_strange_member_is_refused(tmp_path: Path, name: str) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo(name)
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))
    with pytest.raises(StoreError, match="which no export holds"):
        import_store(tmp_path / "other", tmp_path / "bad.tar")
    assert not list(tmp_path.rglob("*.h5"))


def test_an_export_with_a_link_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        info = tarfile.TarInfo(f"{NAME}/{'0' * 32}.h5")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(StoreError, match="which no export holds"):
        import_store(tmp_path / "other", tmp_path / "bad.tar")


def test_a_file_that_is_no_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"no tar at all" * 100)
    with pytest.raises(StoreError, match="not a whole export"):
        import_store(tmp_path, tmp_path / "bad.tar")
    with pytest.raises(StoreError, match="cannot be taken over"):
        import_store(tmp_path, tmp_path / "absent.tar")
