"""Token stores: ragged rows keep every promise of the plain ones, and are read batch by batch."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from pairfuse.data.loading import load_dataset
from pairfuse.data.pairs import text_key
from pairfuse.encoders.token_encoder import TokenEncoder
from pairfuse.encoders.tokens import Tokens, offsets_of, pool_tokens
from pairfuse.errors import StoreError
from pairfuse.features import extraction, store
from pairfuse.features.extraction import Content, Extraction, contents, extract
from pairfuse.features.part import damaged_rows, open_part, pack, part_name, read_rows, read_tokens
from pairfuse.features.store import FeatureStore, open_store
from pairfuse.features.token_views import open_tokens
from pairfuse.features.upkeep import export_store, import_store, thin_out, verify_stores
from toys.data import write_set
from toys.encoders import Killed, ToyEncoder, ToySequence, toy_features, toy_tokens

MARK = "ab" * 32
NAME = "toy-tokens-" + MARK[:8]
ATTRIBUTES = {
    "encoder": "toy",
    "modality": "text",
    "fingerprint": MARK,
    "made_from": "{}",
    "created": "2026-01-01T00:00:00+00:00",
    "version": "0.1.0",
}
LENGTHS = (2, 1, 5, 3)
DIM = 3


def key(number: int) -> bytes:
    return bytes([number]) * 32


KEYS = [key(number) for number in range(len(LENGTHS))]


def ragged(lengths: Sequence[int] = LENGTHS, seed: int = 0) -> Tokens:
    values = np.random.default_rng(seed).standard_normal((sum(lengths), DIM))
    return Tokens(values.astype(np.float16), offsets_of(lengths))


FEATURES = np.arange(8, dtype=np.float32).reshape(4, 2)


def open_toy(cache: Path) -> FeatureStore:
    folder = cache / "features" / NAME / "parts"
    return FeatureStore(folder, "toy", "text", MARK, 2, token_dim=DIM)


def same(found: Tokens, wanted: Tokens) -> bool:
    return (found.offsets == wanted.offsets).all() and (
        found.values.tobytes() == wanted.values.tobytes()
    )


@pytest.fixture
def filled(tmp_path: Path) -> FeatureStore:
    """Four rows in two parts of two."""
    toy, all_tokens = open_toy(tmp_path), ragged()
    for some in (np.array([0, 1]), np.array([2, 3])):
        toy.add([KEYS[n] for n in some], FEATURES[some], all_tokens.rows(some))
    return toy


@pytest.fixture
def path(tmp_path: Path) -> Path:
    keys = np.frombuffer(b"".join(KEYS), np.uint8).reshape(-1, 32)
    name, data = pack(ATTRIBUTES, keys, FEATURES, ragged())
    (tmp_path / name).write_bytes(b"".join(data))
    return tmp_path / name


# --- one part ---------------------------------------------------------------------------------


def test_ragged_rows_are_read_bit_for_bit_in_any_order(path: Path) -> None:
    part, order = open_part(path), np.array([3, 0, 3, 1])
    assert same(read_tokens(part, np.arange(4)), ragged())
    assert same(read_tokens(part, order), ragged().rows(order))
    assert (read_rows(part, np.arange(4)) == FEATURES).all()


def test_a_part_without_tokens_says_so(tmp_path: Path) -> None:
    name, data = pack(ATTRIBUTES, np.zeros((4, 32), np.uint8), FEATURES)
    (tmp_path / name).write_bytes(b"".join(data))
    part = open_part(tmp_path / name)
    assert part.attributes["format_version"] == 2
    with pytest.raises(StoreError, match=r"holds no tokens; run `pairfuse features --tokens`"):
        read_tokens(part, np.arange(4))


def test_no_flipped_byte_gives_wrong_tokens(path: Path) -> None:
    whole, refused = path.read_bytes(), 0
    for place in range(0, len(whole), 11):
        data = bytearray(whole)
        data[place] ^= 0xFF
        path.write_bytes(data)
        try:
            part = open_part(path)
            bad = damaged_rows(part).tolist()
            found = read_tokens(part, np.arange(4))
        except StoreError:
            refused += 1
            continue
        assert same(found, ragged())
        assert (
            read_rows(part, np.setdiff1d(np.arange(4), bad)) == np.delete(FEATURES, bad, 0)
        ).all()
    assert refused


def test_a_flipped_token_spoils_its_row_alone(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(ragged().row(2).tobytes()) + 4] ^= 1
    path.write_bytes(data)
    part = open_part(path)
    assert damaged_rows(part).tolist() == [2]
    assert same(read_tokens(part, np.array([3, 1])), ragged().rows(np.array([3, 1])))
    assert (read_rows(part, np.arange(4)) == FEATURES).all()
    with pytest.raises(StoreError, match="the tokens of 1 of 4 rows read are damaged"):
        read_tokens(part, np.arange(4))


def test_a_token_part_cut_at_any_length_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match="is refused"):
            open_part(path)


def forged(path: Path, change: Callable[[h5py.File], object]) -> Path:
    """A part that was changed and given the name that fits."""
    with h5py.File(path, "r+") as file:
        change(file)
        plain = dict(file.attrs.items())
        attributes = {
            name: value.decode() if isinstance(value, bytes) else int(value)
            for name, value in plain.items()
        }
        arrays = ["keys", "checksums", "offsets", "token_checksums"]
        name = part_name(attributes, *(file[each][:] for each in arrays))
    return path.rename(path.with_name(name))


def offsets(*values: int) -> Callable[[h5py.File], object]:
    return lambda file: file["offsets"].__setitem__(slice(None), np.array(values, np.int64))


def other(name: str, data: object, **options: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, data=data, **options)

    return change


def absurd(file: h5py.File) -> None:
    del file["tokens"]
    file.create_dataset("tokens", (10**11, DIM), "f2")
    file.attrs["tokens"] = 10**11
    file["offsets"][-1] = 10**11


def outside(file: h5py.File) -> None:
    del file["tokens"]
    file.create_dataset("tokens", (11, DIM), "f2", external=[("/etc/passwd", 0, 11 * DIM * 2)])


HOSTILE: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "offsets that fall": (offsets(0, 3, 2, 8, 11), "offsets do not divide 11 tokens"),
    "an empty row": (offsets(0, 2, 2, 8, 11), "offsets do not divide"),
    "offsets past the end": (offsets(0, 2, 3, 8, 12), "offsets do not divide"),
    "offsets far past the end": (offsets(0, 2, 3, 2**62, 11), "offsets do not divide"),
    "negative offsets": (offsets(-1, 2, 3, 8, 11), "offsets do not divide"),
    "offsets that turn over": (offsets(0, 2**63 - 1, -(2**63), 8, 11), "offsets do not divide"),
    "offsets of another row": (offsets(0, 1, 3, 8, 11), "the tokens of 2 of 4 rows"),
    "too few offsets": (other("offsets", np.array([0, 11])), "'offsets' has shape"),
    "float offsets": (other("offsets", np.zeros(5)), "'offsets' is not plain"),
    "float32 tokens": (other("tokens", np.zeros((11, DIM), "f4")), "'tokens' is not plain"),
    "wider tokens": (other("tokens", np.zeros((11, 4), "f2")), "'tokens' has shape"),
    "packed tokens": (
        other("tokens", np.zeros((11, DIM), "f2"), compression="gzip"),
        "'tokens' is not plain",
    ),
    "absurdly many tokens": (absurd, "reaches past the end of the file"),
    "another machine's file": (outside, "'tokens' is not plain"),
    "no width": (lambda file: file.attrs.__setitem__("token_dim", 0), "'tokens' has shape"),
    "a number of tokens that is a word": (
        lambda file: file.attrs.__setitem__("tokens", np.bytes_("11")),
        "attribute 'tokens' is not a plain value",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_forged_token_block_is_refused_under_a_name_that_fits(case: str, path: Path) -> None:
    change, reason = HOSTILE[case]
    if "word" in case:
        with h5py.File(path, "r+") as file:
            change(file)
    else:
        path = forged(path, change)
    with pytest.raises(StoreError, match=reason):
        read_tokens(open_part(path), np.arange(4))


def test_a_token_part_that_calls_itself_plain_is_refused(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
    with pytest.raises(StoreError, match="its name is not the checksum of its content"):
        open_part(path)


# --- a store ----------------------------------------------------------------------------------


def test_tokens_come_in_the_order_of_the_keys_over_several_parts(filled: FeatureStore) -> None:
    order = np.array([3, 0, 2, 0])
    assert same(filled.read_tokens([KEYS[n] for n in order]), ragged().rows(order))
    assert len(filled.read_tokens([])) == 0


@pytest.mark.parametrize("how", ["cls", "mean", "max"])
def test_a_view_is_pooled_from_stored_tokens(how: str, filled: FeatureStore) -> None:
    filled.pooling = how  # type: ignore[assignment]
    assert (filled.read_view(KEYS) == pool_tokens(ragged(), how)).all()  # type: ignore[arg-type]
    filled.pooling = None
    assert (filled.read_view(KEYS) == FEATURES).all()


BAD: dict[str, Tokens | None] = {
    "none": None,
    "too few": ragged((1, 1)),
    "an empty one": ragged((2, 0, 5, 3)),
    "no number": Tokens(np.full((11, DIM), np.inf, np.float16), ragged().offsets),
    "another width": Tokens(np.zeros((11, 2), np.float16), ragged().offsets),
}


@pytest.mark.parametrize("case", BAD)
def test_tokens_of_another_shape_are_not_taken(case: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="toy gave"):
        open_toy(tmp_path).add(KEYS, FEATURES, BAD[case])


def test_joining_parts_keeps_every_token(
    filled: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPACT_ABOVE", 1)
    filled.add(KEYS[:1], FEATURES[:1], ragged().rows(np.array([0])))  # as two processes may
    filled.compact()
    again = open_toy(tmp_path)
    assert (len(again.parts), len(again)) == (1, 4)
    assert same(again.read_tokens(KEYS), ragged())
    assert (again.read(KEYS) == FEATURES).all()


def test_parts_are_joined_by_the_size_that_tokens_have(
    filled: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "COMPACT_ABOVE", 1)
    monkeypatch.setattr(store, "MAX_PART_BYTES", 100)
    filled.compact()
    assert len(filled.parts) == 2


def test_a_part_of_the_plain_store_is_refused(filled: FeatureStore, tmp_path: Path) -> None:
    plain = FeatureStore(filled.folder.parent / "other", "toy", "text", MARK, 2)
    plain.add(KEYS, FEATURES)
    plain.parts[0].path.rename(filled.folder / plain.parts[0].path.name)
    with pytest.raises(StoreError, match="it was made by toy"):
        open_toy(tmp_path)


# --- upkeep -----------------------------------------------------------------------------------


def spoil(filled: FeatureStore, row: int) -> None:
    for part in filled.parts:
        data = bytearray(part.path.read_bytes())
        place = data.find(ragged().row(row).tobytes())
        if place >= 0:
            data[place] ^= 1
            part.path.write_bytes(data)


def test_repair_keeps_the_rows_whose_tokens_are_sound(filled: FeatureStore, tmp_path: Path) -> None:
    spoil(filled, 2)
    [facts] = verify_stores(tmp_path)
    assert (facts.lost, facts.rows) == ((key(2).hex(),), 3)
    verify_stores(tmp_path, repair=True)
    again = open_toy(tmp_path)
    assert again.missing(KEYS) == [key(2)]
    left = np.array([0, 1, 3])
    assert same(again.read_tokens([KEYS[n] for n in left]), ragged().rows(left))
    assert verify_stores(tmp_path)[0].damaged == ()


def test_thinning_out_keeps_the_tokens_of_used_rows(filled: FeatureStore, tmp_path: Path) -> None:
    assert thin_out(tmp_path, {key(1), key(2)}, remove=True)[NAME].rows == 2
    again = open_toy(tmp_path)
    assert same(again.read_tokens([key(2), key(1)]), ragged().rows(np.array([2, 1])))


def test_thinning_out_vouches_for_no_damaged_token(filled: FeatureStore, tmp_path: Path) -> None:
    spoil(filled, 1)
    with pytest.raises(StoreError, match="the tokens of 1 of 1 rows read are damaged"):
        thin_out(tmp_path, {key(1)}, remove=True)
    assert verify_stores(tmp_path)[0].lost == (key(1).hex(),)


def test_an_exported_token_store_is_the_same_elsewhere(
    filled: FeatureStore, tmp_path: Path
) -> None:
    assert export_store(tmp_path, NAME, tmp_path / "toy.tar") == 4
    assert import_store(tmp_path / "else", tmp_path / "toy.tar") == (NAME, 4)
    assert same(open_toy(tmp_path / "else").read_tokens(KEYS), ragged())


def test_an_export_with_damaged_tokens_is_refused(filled: FeatureStore, tmp_path: Path) -> None:
    spoil(filled, 0)
    with pytest.raises(StoreError, match="1 of 2 rows are damaged"):
        export_store(tmp_path, NAME, tmp_path / "toy.tar")


# --- reading batches --------------------------------------------------------------------------


def test_a_batch_is_padded_and_says_what_is_a_token(filled: FeatureStore) -> None:
    rows = open_tokens(filled, [KEYS[3], None, KEYS[0], KEYS[2]])
    assert rows.lengths.tolist() == [3, 0, 2, 5]
    values, mask = rows.take(np.array([2, 1, 0]))
    assert (values.shape, values.dtype) == ((3, 3, DIM), np.float32)
    assert mask.tolist() == [[True, True, False], [False] * 3, [True] * 3]
    assert (values[0, :2] == ragged().row(0)).all()
    assert (values[2] == ragged().row(3)).all()
    assert not values[~mask].any()


def test_rows_chosen_from_chosen_rows_are_the_same(filled: FeatureStore) -> None:
    rows = open_tokens(filled, list(KEYS))
    chosen = rows.rows(np.array([3, 1, 0])).rows(np.array([True, False, True]))
    assert (chosen.take(np.array([1]))[0] == rows.take(np.array([0]))[0]).all()
    assert chosen.lengths.tolist() == [3, 2]


def test_a_batch_without_any_sequence_has_one_padded_place(filled: FeatureStore) -> None:
    values, mask = open_tokens(filled, [None, None]).take(np.array([0, 1]))
    assert values.shape == (2, 1, DIM)
    assert not mask.any()


def test_a_damaged_row_is_refused_when_it_is_taken(filled: FeatureStore, tmp_path: Path) -> None:
    rows = open_tokens(filled, list(KEYS))
    spoil(filled, 1)
    rows = open_tokens(open_toy(tmp_path), list(KEYS))
    rows.take(np.array([0, 2, 3]))
    with pytest.raises(StoreError, match="the tokens of 1 of 1 rows read are damaged"):
        rows.take(np.array([0, 1]))


def test_an_open_batch_reader_outlives_the_parts(filled: FeatureStore) -> None:
    rows = open_tokens(filled, list(KEYS))
    for part in filled.parts:
        part.path.unlink()
    assert (rows.take(np.array([2]))[0][0] == ragged().row(2)).all()


# --- extraction -------------------------------------------------------------------------------


def texts(count: int) -> dict[bytes, Content]:
    words = [" ".join(["word"] * (number % 4 + 1) + [str(number)]) for number in range(count)]
    return {text_key(text): text for text in words}


def run(wanted: dict[bytes, Content], toy: ToySequence, cache: Path, **how: object) -> Extraction:
    encoder = TokenEncoder(toy)
    return extract(wanted, encoder, open_store(cache, encoder), device="cpu", workers=1, **how)  # type: ignore[arg-type]


def check_kept(cache: Path, wanted: dict[bytes, Content]) -> int:
    """Rows in the store, all of them the right ones."""
    found = open_store(cache, TokenEncoder(ToySequence()))
    there = [key for key in wanted if key in found]
    for row, each in enumerate(there):
        content = str(wanted[each]).encode()
        assert (found.read([each])[0] == toy_features(content)).all()
        assert (found.read_tokens(there).row(row) == toy_tokens(content)).all()
    return len(there)


@pytest.mark.parametrize("modality", ["text", "image"])
def test_a_data_set_is_kept_with_its_tokens_and_nothing_is_computed_twice(
    modality: str, tmp_path: Path
) -> None:
    root = write_set(tmp_path / "set", dict.fromkeys("abcde", "good"))
    wanted = contents(load_dataset(root), modality)  # type: ignore[arg-type]
    toy = ToySequence(modality=modality)  # type: ignore[arg-type]
    assert run(wanted, toy, tmp_path / "cache").computed == 5
    assert run(wanted, toy, tmp_path / "cache").computed == 0
    found = open_store(tmp_path / "cache", TokenEncoder(toy))
    assert found.tokens == 15
    assert found.folder.parent.name.startswith("toy-tokens-")


def test_pooled_rows_equal_those_of_the_plain_store(tmp_path: Path) -> None:
    wanted = texts(9)
    run(wanted, ToySequence(), tmp_path)
    plain = ToyEncoder()
    extract(wanted, plain, open_store(tmp_path, plain), device="cpu", workers=1)
    kept = open_store(tmp_path, TokenEncoder(ToySequence()))
    assert kept.read(list(wanted)).tobytes() == (
        open_store(tmp_path, plain).read(list(wanted)).tobytes()
    )
    assert len(list((tmp_path / "features").iterdir())) == 2


def test_a_killed_run_goes_on_from_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    wanted = texts(40)
    with pytest.raises(Killed):
        run(wanted, ToySequence(dies_after=3), tmp_path)
    before = check_kept(tmp_path, wanted)
    assert 0 < before < 40
    again = run(wanted, ToySequence(), tmp_path)
    assert (again.cached, again.computed) == (before, 40 - before)
    assert check_kept(tmp_path, wanted) == 40


def test_the_size_is_said_before_the_first_row(tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    wanted = texts(40)
    run(wanted, ToySequence(), tmp_path, on_size=lambda rows, size: said.append((rows, size)))
    [(rows, size)] = said
    kept = open_store(tmp_path, TokenEncoder(ToySequence()))
    assert rows == 40
    assert size == pytest.approx(sum(part.nbytes for part in kept.parts) + 40 * 72, rel=0.02)


def test_without_room_for_the_tokens_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")(10**12, 0, 40 * (4 * 4 + 48 + 24 + 2 * 6))
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match=r"MB for 40 rows, .* make room"):
        run(texts(40), ToySequence(), tmp_path)
    assert not list(tmp_path.rglob("*.h5"))


def test_a_full_disk_half_way_says_what_is_still_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "COMMIT_SECONDS", 0)
    whole, left = Path.replace, iter([True])

    def replace(source: Path, target: Path) -> Path:
        if next(left, False):
            return whole(source, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(StoreError, match=r"rows are left and need .* MB"):
        run(texts(40), ToySequence(), tmp_path)
    monkeypatch.undo()
    before = check_kept(tmp_path, texts(40))
    assert before
    assert run(texts(40), ToySequence(), tmp_path).computed == 40 - before
