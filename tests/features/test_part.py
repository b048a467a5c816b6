from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from pairfuse.arrays import Floats
from pairfuse.errors import StoreError
from pairfuse.features.part import Bytes, damaged_rows, open_part, pack, part_name, read_rows

ATTRIBUTES = {
    "encoder": "toy",
    "modality": "text",
    "fingerprint": "ab" * 32,
    "made_from": "{}",
    "created": "2026-01-01T00:00:00+00:00",
    "version": "0.1.0",
}
ROWS, DIM = 5, 3
ALL = np.arange(ROWS)


def rows() -> tuple[Bytes, Floats]:
    random = np.random.default_rng(0)
    keys = random.integers(0, 256, (ROWS, 32), dtype=np.uint8)
    return keys, random.standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    name, data = pack(ATTRIBUTES, *rows())
    (tmp_path / name).write_bytes(b"".join(data))
    return tmp_path / name


def flip(path: Path, place: int, *, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


def place_of(path: Path, content: bytes) -> int:
    data = path.read_bytes()
    assert data.count(content) == 1
    return data.index(content)


def test_what_was_packed_is_read_bit_for_bit(path: Path) -> None:
    keys, features = rows()
    part = open_part(path)
    assert part.keys.tobytes() == keys.tobytes()
    assert read_rows(part, ALL).tobytes() == features.tobytes()
    assert {name: part.attributes[name] for name in ATTRIBUTES} == ATTRIBUTES


def test_chosen_rows_come_in_the_order_asked_for(path: Path) -> None:
    chosen = np.array([4, 0, 4])
    assert (read_rows(open_part(path), chosen) == rows()[1][chosen]).all()


def test_the_same_rows_have_the_same_name_and_others_another() -> None:
    keys, features = rows()
    assert pack(ATTRIBUTES, keys, features)[0] == pack(ATTRIBUTES, keys, features)[0]
    names = {
        pack(ATTRIBUTES, keys, features)[0],
        pack(ATTRIBUTES, keys[::-1], features)[0],
        pack(ATTRIBUTES, keys, features * 2)[0],
        pack({**ATTRIBUTES, "fingerprint": "cd" * 32}, keys, features)[0],
    }
    assert len(names) == 4


def test_a_flipped_bit_in_a_feature_spoils_its_row_alone(path: Path) -> None:
    flip(path, place_of(path, rows()[1][2].tobytes()) + 5)
    part = open_part(path)
    assert damaged_rows(part).tolist() == [2]
    assert (read_rows(part, np.array([0, 1, 3, 4])) == rows()[1][[0, 1, 3, 4]]).all()
    with pytest.raises(StoreError, match=r"1 of 5 rows read are damaged.*cache verify --repair"):
        read_rows(part, ALL)


def test_a_flipped_bit_in_a_key_is_refused_on_opening(path: Path) -> None:
    flip(path, place_of(path, rows()[0][1].tobytes()))
    with pytest.raises(StoreError, match="its name is not the checksum of its content"):
        open_part(path)


def test_a_flipped_bit_in_a_row_checksum_is_refused_on_opening(path: Path) -> None:
    flip(path, place_of(path, open_part(path).checksums[3].tobytes()))
    with pytest.raises(StoreError, match="its name is not the checksum"):
        open_part(path)


@pytest.mark.parametrize("word", [b"2026-01-01", b"ab" * 32, b"0.1.0"])
def test_a_changed_attribute_is_refused_on_opening(word: bytes, path: Path) -> None:
    flip(path, place_of(path, word) + 2)
    with pytest.raises(StoreError, match="is refused"):
        open_part(path)


def test_a_renamed_part_is_refused(path: Path) -> None:
    renamed = path.rename(path.with_name("0" * 32 + ".h5"))
    with pytest.raises(StoreError, match="its name is not the checksum"):
        open_part(renamed)


def test_no_flipped_byte_gives_wrong_features(path: Path) -> None:
    whole, (_, features) = path.read_bytes(), rows()
    refused = 0
    for place in range(0, len(whole), 13):
        path.write_bytes(whole)
        flip(path, place, bit=0xFF)
        try:
            found = read_rows(open_part(path), ALL)
        except StoreError:
            refused += 1
            continue
        assert found.tobytes() == features.tobytes()
    assert refused


def test_a_part_cut_at_any_length_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [0, 1, 7, *range(8, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="is refused"):
            open_part(path)


def test_a_part_that_changes_after_opening_is_refused_on_reading(path: Path) -> None:
    part = open_part(path)
    name, data = pack(ATTRIBUTES, rows()[0][:2], rows()[1][:2])
    assert name != path.name
    path.write_bytes(b"".join(data))
    with pytest.raises(StoreError, match="5 of 5 rows read are damaged"):
        read_rows(part, ALL)


def test_a_part_that_is_gone_is_told_apart_from_a_damaged_one(path: Path) -> None:
    part = open_part(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        open_part(path)
    with pytest.raises(FileNotFoundError):
        read_rows(part, ALL)


def replaced(name: str, **options: object) -> Callable[[h5py.File, Path], None]:
    """Put another dataset in the place of one of the part's."""

    def change(file: h5py.File, folder: Path) -> None:
        data = options.pop("data", file[name][:])
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "secret", "w") as other:
        other["features"] = rows()[1]
    del file["features"]
    file["features"] = h5py.ExternalLink(str(folder / "secret"), "features")


def soft_link(file: h5py.File, folder: Path) -> None:
    file.move("features", "elsewhere")
    file["features"] = h5py.SoftLink("/elsewhere")


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(rows()[1].tobytes())
    del file["features"]
    outside = [(str(folder / "secret"), 0, ROWS * DIM * 4)]
    file.create_dataset("features", (ROWS, DIM), "f4", external=outside)


def virtual_dataset(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "secret", "w") as other:
        other["features"] = rows()[1]
    layout = h5py.VirtualLayout((ROWS, DIM), "f4")
    layout[:] = h5py.VirtualSource(folder / "secret", "features", (ROWS, DIM))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def group(file: h5py.File, folder: Path) -> None:
    del file["features"]
    file.create_group("features")


def object_type(file: h5py.File, folder: Path) -> None:
    del file["features"]
    file.create_dataset("features", (ROWS, DIM), h5py.string_dtype())


def absurd_rows(file: h5py.File, folder: Path) -> None:
    for name, width, kind in (("keys", 32, "u1"), ("checksums", 16, "u1"), ("features", DIM, "f4")):
        del file[name]
        file.create_dataset(name, (10**11, width), kind)
    file.attrs["rows"] = 10**11


def absurd_width(file: h5py.File, folder: Path) -> None:
    del file["features"]
    file.create_dataset("features", (ROWS, 10**11), "f4")
    file.attrs["dim"] = 10**11


def attribute(name: str, value: object) -> Callable[[h5py.File, Path], None]:
    def change(file: h5py.File, folder: Path) -> None:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = value

    return change


HOSTILE: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "external link": (external_link, "is missing or is a link to elsewhere"),
    "soft link": (soft_link, "is missing or is a link to elsewhere"),
    "external storage": (external_storage, "is not plain, contiguous"),
    "virtual dataset": (virtual_dataset, "is not plain, contiguous"),
    "group": (group, "'features' is not a dataset"),
    "object type": (object_type, "is not plain, contiguous"),
    "compressed": (replaced("features", compression="gzip"), "is not plain, contiguous"),
    "chunked": (replaced("features", chunks=(1, DIM)), "is not plain, contiguous"),
    "float64": (replaced("features", dtype="f8"), "is not plain, contiguous"),
    "big-endian": (replaced("features", dtype=">f4"), "is not plain, contiguous"),
    "too few rows": (replaced("keys", data=np.zeros((2, 32), np.uint8)), "has shape"),
    "short keys": (replaced("keys", data=np.zeros((ROWS, 8), np.uint8)), "has shape"),
    "absurd rows": (absurd_rows, "reaches past the end of the file"),
    "absurd width": (absurd_width, "reaches past the end of the file"),
    "no rows": (attribute("rows", 0), "it declares 0 rows"),
    "negative rows": (attribute("rows", -1), "it declares -1 rows"),
    "older version": (attribute("format_version", 0), "of format pairfuse-features version 0"),
    "newer version": (attribute("format_version", 99), "format version 99, which a newer"),
    "other format": (attribute("format", np.bytes_("anndata")), "of format anndata"),
    "attribute missing": (attribute("created", None), "attribute 'created' is missing"),
    "attribute array": (attribute("rows", np.ones(9)), "attribute 'rows' is not a plain value"),
    "attribute float": (attribute("rows", 5.0), "attribute 'rows' is not a plain value"),
    "attribute empty": (attribute("rows", h5py.Empty("f4")), "'rows' is not a plain value"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_part_that_is_not_plain_is_refused_whatever_its_name(name: str, path: Path) -> None:
    change, reason = HOSTILE[name]
    with h5py.File(path, "r+") as file:
        change(file, path.parent)
    with pytest.raises(StoreError, match=reason):
        open_part(path)


def test_a_part_of_other_attributes_passes_under_its_own_name_only(path: Path) -> None:
    """The checksum is a proof against accidents; the store compares fingerprints besides."""
    part = open_part(path)
    other = {**part.attributes, "fingerprint": "cd" * 32}
    assert part_name(part.attributes, part.keys, part.checksums) == path.name
    assert part_name(other, part.keys, part.checksums) != path.name


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"text", bytes(5000)])
def test_a_file_that_is_no_hdf5_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(StoreError, match="is refused"):
        open_part(path)
