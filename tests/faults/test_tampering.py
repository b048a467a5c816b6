"""Tampering: damage is refused by name before a byte is used; only what was lost is made again."""

from __future__ import annotations

import json
import os
import resource
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import h5py
import numpy as np
import pytest

from pairfuse.arrays import Floats
from pairfuse.cli import main
from pairfuse.encoders import build_encoders
from pairfuse.errors import StoreError
from pairfuse.features.part import damaged_rows, open_part, pack, part_name, read_rows
from pairfuse.features.store import open_store
from toys.data import write_labels, write_set
from toys.encoders import ToyEncoder, toy_features

ROWS, DIM = 5, 3
ATTRIBUTES = {
    "encoder": "toy",
    "modality": "text",
    "fingerprint": "ab" * 32,
    "made_from": "{}",
    "created": "2026-01-01T00:00:00+00:00",
    "version": "0.1.0",
}
GUIDS = ["1", "2", "3", "4", "5", "6"]


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """End the test, not the suite, where a call never comes back."""

    def late(*_: object) -> None:
        raise TimeoutError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def toy_part(folder: Path, *, rows: int = ROWS, dim: int = DIM) -> tuple[Path, Floats]:
    random = np.random.default_rng(7)
    keys = random.integers(0, 256, (rows, 32), dtype=np.uint8)
    features = random.standard_normal((rows, dim)).astype(np.float32)
    name, data = pack(ATTRIBUTES, keys, features)
    (folder / name).write_bytes(b"".join(data))
    return folder / name, features


def refused(path: Path, features: Floats) -> bool:
    """Whether a part, or a row of it, is refused; what is read must be what was written."""
    try:
        part = open_part(path)
        bad = set(damaged_rows(part).tolist())
        sound = np.array([row for row in range(len(features)) if row not in bad], dtype=np.int64)
        assert part.keys.shape == (len(features), 32)
        assert read_rows(part, sound).tobytes() == features[sound].tobytes()
        assert read_rows(part, np.arange(len(features))).tobytes() == features.tobytes()
    except StoreError as error:
        said = str(error)
    else:
        assert not bad
        return False
    assert str(path) in said
    assert "\n" not in said
    return True


def flips(path: Path, features: Floats, places: range, masks: tuple[int, ...]) -> tuple[int, int]:
    """Flip each byte; how many were refused and how many changed nothing that is read."""
    whole, bad = bytearray(path.read_bytes()), 0
    for place in places:
        for mask in masks:
            whole[place] ^= mask
            path.write_bytes(whole)
            bad += refused(path, features)
            whole[place] ^= mask
    return bad, len(places) * len(masks) - bad


def cuts(path: Path, features: Floats, lengths: range) -> int:
    whole = path.read_bytes()
    for length in lengths:
        path.write_bytes(whole[:length])
        assert refused(path, features), length
    return len(lengths)


def blocks(path: Path, features: Floats, size: int) -> tuple[int, int]:
    """Each block zeroed, and each swapped with every other: a lost or misplaced sector."""
    whole, bad, tried = path.read_bytes(), 0, 0
    starts = range(0, len(whole) - size + 1, size)
    for one in starts:
        for other in (None, *starts):
            data = bytearray(whole)
            data[one : one + size] = bytes(size) if other is None else whole[other : other + size]
            if other is not None:
                data[other : other + size] = whole[one : one + size]
            path.write_bytes(data)
            bad += refused(path, features)
            tried += 1
    return bad, tried - bad


def test_a_flipped_byte_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path, features = toy_part(tmp_path)
    bad, harmless = flips(path, features, range(5, path.stat().st_size, 53), (0x81,))
    assert bad
    assert harmless


def test_a_lost_or_misplaced_block_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path, features = toy_part(tmp_path)
    bad, harmless = blocks(path, features, 1024)
    assert bad
    assert harmless


@pytest.mark.faults
def test_every_byte_of_a_part_flipped_cut_and_moved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, features = toy_part(tmp_path)
    whole = path.read_bytes()
    bad, harmless = flips(path, features, range(len(whole)), (0x01, 0xFF))
    path.write_bytes(whole)
    cut = cuts(path, features, range(len(whole)))
    path.write_bytes(whole)
    lost, same = blocks(path, features, 256)
    with capsys.disabled():
        print(f"\na part of {len(whole)} bytes, each flipped in two ways: {bad} refused, ")
        print(f"{harmless} read bit for bit; {cut} lengths cut, all refused; blocks of 256 bytes")
        print(f"zeroed or swapped: {lost} refused, {same} read bit for bit")
    assert min(bad, harmless, lost, same) > 0


def _two_stores(tmp_path: Path) -> tuple[list[ToyEncoder], list[Path]]:
    encoders = [ToyEncoder(made_from={"weights": word}) for word in ("one", "other")]
    paths = []
    for encoder in encoders:
        store = open_store(tmp_path, encoder)
        keys = [bytes([number]) * 32 for number in range(3)]
        store.add(keys, np.stack([toy_features(key + encoder.name.encode()) for key in keys]))
        paths.append(store.parts[0].path)
    return encoders, paths


@pytest.mark.parametrize("keep_names", [True, False])
def test_parts_of_two_encoders_that_were_swapped_are_refused(
    keep_names: bool, tmp_path: Path
) -> None:
    encoders, (one, other) = _two_stores(tmp_path)
    first, second = one.read_bytes(), other.read_bytes()
    for path, data, name in ((one, second, other.name), (other, first, one.name)):
        path.unlink()
        path.with_name(path.name if keep_names else name).write_bytes(data)
    reason = "its name is not the checksum" if keep_names else "it was made by"
    for encoder in encoders:
        with pytest.raises(StoreError, match=reason):
            open_store(tmp_path, encoder)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else int(value)


def rebuilt(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """A part that was changed and then given the name that fits: the work of a forger."""
    with h5py.File(path, "r+") as file:
        change(file)
        attributes = {name: _plain(value) for name, value in file.attrs.items()}
        name = part_name(attributes, file["keys"][:], file["checksums"][:])
    return path.rename(path.with_name(name))


FORGED: Mapping[str, tuple[str, Any]] = {
    "a number for the fingerprint": ("fingerprint", 7),
    "a number for the encoder": ("encoder", 7),
    "a number for the date": ("created", 7),
    "a word for the rows": ("rows", np.bytes_("five")),
    "a word for the width": ("dim", np.bytes_("3")),
    "an older format": ("format_version", 0),
    "text of any length": ("encoder", "toy"),
    "another format": ("format", np.bytes_("anndata")),
}


@pytest.mark.parametrize("case", FORGED)
def test_an_attribute_of_another_kind_is_refused_under_a_name_that_fits(
    case: str, tmp_path: Path
) -> None:
    name, value = FORGED[case]
    path = rebuilt(toy_part(tmp_path)[0], lambda file: file.attrs.__setitem__(name, value))
    with pytest.raises(StoreError, match=r"is refused: .*(plain value|declares|of format)"):
        open_part(path)


def test_a_forged_name_does_not_vouch_for_features(tmp_path: Path) -> None:
    """The name covers checksums, not features: these are proven row by row."""
    path, features = toy_part(tmp_path)
    path = rebuilt(path, lambda file: file["features"].__setitem__((2, 0), 9.0))
    assert damaged_rows(open_part(path)).tolist() == [2]
    assert refused(path, features)


def _pipe_as_storage(file: h5py.File, pipe: Path) -> None:
    del file["features"]
    outside = [(str(pipe), 0, ROWS * DIM * 4)]
    file.create_dataset("features", (ROWS, DIM), "f4", external=outside)


def _pipe_as_link(file: h5py.File, pipe: Path) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink(str(pipe), "features")


def _pipe_as_source(file: h5py.File, pipe: Path) -> None:
    layout = h5py.VirtualLayout((ROWS, DIM), "f4")
    layout[:] = h5py.VirtualSource(str(pipe), "features", (ROWS, DIM))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def _pipe_behind_a_group(file: h5py.File, pipe: Path) -> None:
    del file["features"]
    file["way"] = h5py.ExternalLink(str(pipe), "/")
    file["features"] = h5py.SoftLink("/way/features")


@pytest.mark.parametrize(
    "point", [_pipe_as_storage, _pipe_as_link, _pipe_as_source, _pipe_behind_a_group]
)
def test_a_file_outside_is_never_opened(
    point: Callable[[h5py.File, Path], None], tmp_path: Path
) -> None:
    """The file outside is a pipe: whoever opens it waits for ever."""
    path, _ = toy_part(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with h5py.File(path, "r+") as file:
        point(file, tmp_path / "pipe")
    with deadline(10), pytest.raises(StoreError, match=r"is not plain|is a link"):
        open_part(path)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_a_part_that_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / ("0" * 32 + ".h5")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with deadline(10), pytest.raises(StoreError, match="is refused: it is not a plain file"):
        open_part(path)


def test_a_gzip_bomb_is_refused_without_unpacking_it(tmp_path: Path) -> None:
    path, _ = toy_part(tmp_path)
    rows = 2**16
    with h5py.File(path, "r+") as file:
        del file["features"]
        bomb = file.create_dataset(
            "features", (rows, 1024), "f4", chunks=(rows, 1024), compression="gzip"
        )
        bomb.id.write_direct_chunk((0, 0), zlib.compress(bytes(rows * 4096), 9))
    assert path.stat().st_size < 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StoreError, match=r"'features' (is not plain|has shape)"):
        open_part(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


# --- the whole way: damage, verify, repair, features --------------------------------------------


def _features(root: Path, cache: Path) -> int:
    places = ["--data", str(root), "--cache", str(cache)]
    return main(["features", "--encoders", "ngram", *places])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """Six pairs extracted in two runs of three, so in two parts; and the rows by key."""
    place = tmp_path_factory.mktemp("tampering")
    for count in (3, 6):
        write_set(place / "set", dict.fromkeys(GUIDS[:count], "good"))
        assert _features(place / "set", place / "cache") == 0
    return place, _rows(place / "cache")


def _rows(cache: Path) -> dict[str, bytes]:
    [encoder] = build_encoders(["ngram"], device="cpu")
    store = open_store(cache, encoder)
    keys = [key.tobytes() for part in store.parts for key in part.keys]
    return {key.hex(): row.tobytes() for key, row in zip(keys, store.read(keys), strict=True)}


@pytest.fixture
def own(filled: tuple[Path, dict[str, bytes]], tmp_path: Path) -> Path:
    return Path(copytree(filled[0], tmp_path / "own"))


def _place_of_row(path: Path, row: int) -> int:
    with h5py.File(path, "r") as file:
        return int(file["features"].id.get_offset() + row * file["features"].shape[1] * 4)


def _flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0x10
    path.write_bytes(data)


def _flip_rows(*rows: int) -> Callable[[Path], object]:
    return lambda path: [_flip(path, _place_of_row(path, row) + 9) for row in rows]


def _cut(share: float) -> Callable[[Path], object]:
    return lambda path: os.truncate(path, int(path.stat().st_size * share))


def _in_file(change: Callable[[h5py.File], object]) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return damage


def _older(path: Path) -> None:
    rebuilt(path, lambda file: file.attrs.__setitem__("format_version", 0))


def _flip_key(path: Path) -> None:
    _flip(path, path.read_bytes().index(open_part(path).keys[0].tobytes()))


def _flip_checksum(path: Path) -> None:
    _flip(path, path.read_bytes().index(open_part(path).checksums[0].tobytes()))


def _from_elsewhere(path: Path) -> None:
    other, _ = toy_part(path.parent)
    path.unlink()
    other.rename(path)


def _beside(path: Path) -> None:
    toy_part(path.parent)


def _outside(file: h5py.File) -> None:
    shape = file["features"].shape
    del file["features"]
    outside = [("/etc/passwd", 0, shape[0] * shape[1] * 4)]
    file.create_dataset("features", shape, "f4", external=outside)


#: What is done to one of the two parts, and how many of its three rows are lost by it.
TAMPERED: Mapping[str, tuple[Callable[[Path], object], int]] = {
    "one row flipped": (_flip_rows(1), 1),
    "two rows flipped": (_flip_rows(0, 2), 2),
    "every row flipped": (_flip_rows(0, 1, 2), 3),
    "a key flipped": (_flip_key, 3),
    "a checksum flipped": (_flip_checksum, 3),
    "the head flipped": (lambda path: _flip(path, 9), 3),
    "cut in half": (_cut(0.5), 3),
    "cut to nothing": (_cut(0), 3),
    "renamed": (lambda path: path.rename(path.with_name("0" * 32 + ".h5")), 3),
    "another encoder's part in its place": (_from_elsewhere, 3),
    "another encoder's part beside it": (_beside, 0),
    "an older format": (_older, 3),
    "another machine's file": (_in_file(_outside), 3),
    "no HDF5": (lambda path: path.write_bytes(b"\x80\x04N."), 3),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_damage_is_found_mended_and_only_the_lost_rows_are_computed(
    case: str,
    own: Path,
    filled: tuple[Path, dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, lost = TAMPERED[case]
    cache, before = own / "cache", filled[1]
    [first, _] = sorted((cache / "features").rglob("*.h5"))
    damage(first)
    files = {path: path.read_bytes() for path in (cache / "features").rglob("*.h5")}
    assert main(["cache", "verify", "--cache", str(cache)]) == 1
    assert "error: 1 damaged parts" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in (cache / "features").rglob("*.h5")} == files, "it wrote"
    assert main(["cache", "verify", "--json", "--cache", str(cache)]) == 1
    [facts] = json.loads(capsys.readouterr().out)
    assert facts["rows"] == 6 - lost
    assert main(["cache", "verify", "--repair", "--cache", str(cache)]) == 0
    assert _rows(cache).items() <= before.items()
    assert len(_rows(cache)) == 6 - lost
    capsys.readouterr()
    assert _features(own / "set", cache) == 0
    said = capsys.readouterr().out
    assert (f"computed {lost} in" if lost else "nothing computed") in said
    assert _rows(cache) == before
    assert main(["cache", "verify", "--cache", str(cache)]) == 0


def test_verify_names_the_rows_that_are_lost(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [first, _] = sorted((own / "cache" / "features").rglob("*.h5"))
    keys = [open_part(first).keys[row].tobytes().hex() for row in (0, 2)]
    _flip_rows(0, 2)(first)
    assert main(["cache", "verify", "--cache", str(own / "cache")]) == 1
    said = capsys.readouterr().err.splitlines()
    assert str(first) in said[1]
    assert [line.strip() for line in said[2:]] == [f"row {key}" for key in keys]


def test_a_damaged_row_that_is_not_wanted_stops_nobody(own: Path) -> None:
    """Features of other pairs are still to be had; the damaged one is refused when it is read."""
    write_labels(own / "set" / "train.txt", {"6": "good"})
    [encoder] = build_encoders(["ngram"], device="cpu")
    wanted = open_store(own / "cache", encoder)
    for part in wanted.parts:
        _flip_rows(0)(part.path)
    assert _features(own / "set", own / "cache") == 0
    rows = [part.keys[0].tobytes() for part in wanted.parts]
    with pytest.raises(StoreError, match="1 of 1 rows read are damaged"):
        wanted.read(rows)
