"""Bad input: whatever the bytes, it is read or it is refused in one line; nothing else happens."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import signal
import struct
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any
from zlib import compress, crc32

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pairfuse.cli import main
from pairfuse.config import config_toml, load_config, parse_setting
from pairfuse.data.decoding import decode_texts
from pairfuse.data.image_facts import read_image_facts, save_facts
from pairfuse.data.images import FORMATS, look, open_image
from pairfuse.data.loading import load_dataset
from pairfuse.encoders import build_encoders, fingerprint
from pairfuse.encoders.bf16_probe import bf16_is_faster
from pairfuse.encoders.convnet import CONV_NETS
from pairfuse.errors import DataError, PairfuseError
from pairfuse.features.part import open_part, pack, read_rows
from pairfuse.fusion.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from pairfuse.fusion.fitting import prepare_rows
from pairfuse.study.crossfit import cross_fit
from pairfuse.study.folds import make_folds
from toys.data import picture, saved, write_set
from toys.encoders import standardised
from toys.fusion import PLAIN, noise, table, told_by_words

SECONDS = 20.0  # for one input; the machine may be busy
MEMORY = 2 * 2**30  # bytes that one input may ask for beside what the process holds already
QUICK = 40


class TooSlow(BaseException):
    """No code of the package catches it."""


# --- what holds for every input: time, memory, files, words --------------------------------------


@contextmanager
def bounded() -> Iterator[None]:
    """Time and address space are short."""

    def late(*_: object) -> None:
        raise TooSlow(f"no answer within {SECONDS} s")

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_written: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _written is None:
        return
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _written.append(os.fsdecode(arguments[0]) if arguments[0] is not None else "")
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink"):
        _written.append(os.fsdecode(arguments[1 if event == "os.rename" else 0]))
    elif event in ("subprocess.Popen", "os.system", "socket.connect"):
        _written.append(event)


sys.addaudithook(_hook)


@contextmanager
def writes_only_below(folder: Path) -> Iterator[None]:
    """Whatever is opened for writing, made, renamed or removed lies below the folder."""
    global _written
    _written = []
    try:
        yield
    finally:
        found, _written = _written, None
    outside = [
        path
        for path in found
        if not Path(path).absolute().is_relative_to(folder)
        and "__pycache__" not in path
        and not path.startswith("/dev/")
    ]
    assert not outside, outside


def check_words(error: PairfuseError) -> None:
    """Lower case, one line; or one line and the bad rows, indented."""
    first, *rows = str(error).splitlines()
    assert first
    assert not first[0].isupper(), first
    assert len(first) < 2000, first[:200]
    assert all(row.startswith("  ") for row in rows), str(error)
    assert bool(rows) <= ("bad rows" in first), str(error)


def outcome(call: Callable[[], object], folder: Path) -> str:
    """`read` or `refused`; anything else is an error of the test."""
    with writes_only_below(folder), bounded(), warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            call()
        except PairfuseError as error:
            check_words(error)
            return "refused"
    return "read"


def outcome_in_a_child(call: Callable[[], object], folder: Path) -> str:
    """As `outcome`, in a process of its own: a loop inside a C library hears no alarm."""
    child = os.fork()
    if not child:
        status = 1
        try:
            status = {"read": 0, "refused": 3}[outcome(call, folder)]
        finally:
            os._exit(status)
    late = time.monotonic() + SECONDS
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > late:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"no answer within {SECONDS} s")
        time.sleep(0.001)
    return {0: "read", 3: "refused"}[os.waitstatus_to_exitcode(found[1])]


# --- inputs: valid ones, damaged -----------------------------------------------------------------

TOKENS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"\r",
        b'"',
        b",",
        b"\t",
        b"\x1a",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"{",
        b"[",
    ),
    *(b"../../etc/passwd", b"/dev/zero", b"null", b"NaN", b"-1", b"1e999", b"9" * 5000),
    *(b"\\ud800", b"\\u0000", b"\x80\x04cos\nsystem\n", "ﷺ‮\u2028".encode(), b"[" * 3000),
    *(b"0x" + b"f" * 4400, b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"x" * 300),
)


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A valid file after a few edits: bytes replaced, tokens put in, parts cut, moved, doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        end = min(len(data), start + draw(st.sampled_from((0, 1, 1, 2, 4, 8, 40, 10**6))))
        new = draw(
            st.one_of(
                st.sampled_from(TOKENS),
                st.binary(min_size=1, max_size=8),
                st.just(bytes(data[start:end]) * 2),
            )
        )
        data[start:end] = new
    return bytes(data)


def bytes_like(*seeds: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(damaged(seeds), damaged(seeds), st.binary(max_size=200))


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from((0, 1, -1, 10**5, 10**30, 1e999, -1e999, float("nan"), 0.5)),
    st.sampled_from(("", "x", "\ud800", "\0", "a\nb", "../up", "/dev/zero", "x" * 5000)),
    st.sampled_from(([], {}, [[]], [None], {"": {}}, [1, 2, 3], {"a": 1}, ["a"])),
)


@st.composite
def odd_json(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with a few of its inner values replaced, removed or renamed."""
    found = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        place, steps = found, draw(st.integers(1, 4))
        for step in range(steps):
            if not isinstance(place, (dict, list)) or not place:
                break
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if step + 1 < steps and isinstance(inner, (dict, list)) and inner:
                place = inner
                continue
            if draw(st.integers(0, 4)) == 0:
                del place[key]
            else:
                place[key] = json.loads(json.dumps(draw(ODD_VALUES)))  # its own copy
            break
    return found


# --- one property for each kind of input ---------------------------------------------------------

LABELS = b"guid,tag\n1,good\n2,bad\n3,good\n"
TABLES = {
    "csv": b'id,text,image,label\n1,"one, two",1.png,good\n2,three,2.png,bad\n3,x,,good\n',
    "tsv": b"id\ttext\timage\tlabel\tsplit\n1\tone\t1.png\tgood\ttrain\n2\ttwo\t2.png\tbad\tval\n",
    "jsonl": b'{"id": 1, "text": "one", "image": "1.png", "label": "good"}\n'
    b'{"id": "2", "text": "two", "text_file": "2.txt", "label": null}\n',
}
TEXTS = ("un café".encode("cp1252"), "日本語".encode("cp932"), "ok 😂".encode(), b"plain", b"\xff")


def try_label_file(data: bytes, folder: Path) -> str:
    root = write_set(folder / "set", {"1": "good", "2": "bad", "3": "good"}, ["4"])
    (root / "train.txt").write_bytes(data)
    return outcome(lambda: load_dataset(root), folder)


def try_table(found: tuple[str, bytes], folder: Path) -> str:
    ending, data = found
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(saved(picture(number)))
        (folder / f"{number}.txt").write_text("text")
    path = folder / f"set.{ending}"
    path.write_bytes(data)
    return outcome(lambda: load_dataset(path), folder)


def try_texts(raws: list[bytes], folder: Path) -> str:
    def read() -> None:
        found = decode_texts(raws)
        assert len(found) == len(raws)
        for each in found:
            each.text.encode()

    return outcome(read, folder)


def try_image(data: bytes, folder: Path) -> str:
    def read() -> None:
        facts = look(data, max_pixels=4_000_000)
        found = open_image(data, max_pixels=4_000_000)
        assert found.mode == "RGB"
        assert not facts.error
        for net in CONV_NETS.values():
            assert np.isfinite(standardised(found, net.crop)).all()

    return outcome(read, folder)


def try_config(data: bytes, folder: Path) -> str:
    path = folder / "config.toml"
    path.write_bytes(data)
    return outcome(lambda: config_toml(load_config(path, {})), folder)


def try_setting(text: str, folder: Path) -> str:
    def read() -> None:
        config = load_config(None, dict([parse_setting(text)]))
        assert len(config.run_folder.parts) == len(Path(config.cache).parts) + 2

    return outcome(read, folder)


@dataclass(frozen=True)
class Model:
    """The files of a trained model."""

    description: dict[str, Any]
    weights: bytes


def try_model(found: tuple[Any, bytes], folder: Path) -> str:
    description, weights = found
    (folder / "weights.safetensors").write_bytes(weights)
    if isinstance(description, dict) and weights != model().weights:
        description["weights_sha256"] = hashlib.sha256(weights).hexdigest()
    (folder / "model.json").write_text(json.dumps(description))

    def read() -> None:
        ensemble = load_checkpoint(folder).ensemble
        chances = ensemble.predict_proba(noise(5))
        assert chances.shape == (5, len(ensemble.labels))
        assert np.isfinite(chances).all()

    return outcome(read, folder)


def try_part(data: bytes, folder: Path) -> str:
    name, _, features = part()
    path = folder / name
    path.write_bytes(data)

    def read() -> None:
        found = read_rows(open_part(path), np.arange(len(features)))
        assert found.tobytes() == features.tobytes()

    return outcome_in_a_child(read, folder)


def try_notes(data: bytes, folder: Path) -> str:
    """The notes vouch for themselves, as a forger's would."""
    notes, image = folder / "images.jsonl", folder / "1.png"
    image.write_bytes(saved(picture(1)))
    save_facts(notes, {}, 1000)
    rules = notes.read_bytes().split(b"sha256=")[0]
    head = rules + b"sha256=" + hashlib.sha256(data).hexdigest().encode()
    notes.write_bytes(head + b"\n" + data)

    def read() -> None:
        [facts] = read_image_facts([image], notes, max_pixels=1000)
        assert isinstance(facts.error, str)
        assert 0 <= facts.phash < 2**64

    return outcome(read, folder)


def try_weights(data: bytes, folder: Path) -> str:
    """What is asked of a checkpoint's folder before its network is in memory."""
    write_bert(folder / "bert", {"model.safetensors": data})
    return outcome(lambda: _describe(folder / "bert"), folder)


def try_encoder_json(found: tuple[str, Any], folder: Path) -> str:
    name, value = found
    write_bert(folder / "bert", {name: json.dumps(value).encode()})
    return outcome(lambda: _describe(folder / "bert"), folder)


def _describe(folder: Path) -> None:
    for encoder in build_encoders([f"text={folder}"], device="cpu"):
        assert len(fingerprint(encoder)) == 64
        assert encoder.dim > 0


# --- seeds, made when first asked for ------------------------------------------------------------


@cache
def model() -> Model:
    world = table(*told_by_words(60))
    rows = make_folds(world.targets, world.groups, world.labels, folds=2, n_models=1, seed=0)
    recipe = replace(PLAIN, head="concat", epochs=1, n_components=4, hidden_dim=4)
    [fit] = cross_fit(world, prepare_rows(world.views, rows, seed=0), [recipe], seed=0)
    options = {"encoders": ["ngram"], "pooling": "auto", "max_length": 64, "precision": "fp32"}
    checkpoint = Checkpoint(fit.ensemble, {"words": "ab", "look": "cd"}, options, {"accuracy": 0.5})
    with TemporaryDirectory() as folder:
        save_checkpoint(Path(folder), checkpoint)
        files = [Path(folder) / name for name in ("model.json", "weights.safetensors")]
        return Model(json.loads(files[0].read_bytes()), files[1].read_bytes())


@cache
def bert() -> Mapping[str, bytes]:
    from toys import checkpoints

    with TemporaryDirectory() as place:
        folder = checkpoints.sentence_bert(Path(place) / "bert")
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def write_bert(folder: Path, changes: Mapping[str, bytes]) -> None:
    for name, data in {**bert(), **changes}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


@cache
def part() -> tuple[str, bytes, Any]:
    random = np.random.default_rng(3)
    features = random.standard_normal((4, 3)).astype(np.float32)
    words = ("encoder", "modality", "fingerprint", "made_from", "created", "version")
    keys = random.integers(0, 256, (4, 32), dtype=np.uint8)
    name, data = pack(dict.fromkeys(words, "toy"), keys, features)
    return name, b"".join(data), features


@cache
def images() -> tuple[bytes, ...]:
    small = picture(1, (20, 14))
    exif = Image.Exif()
    exif[0x0112] = 6
    return (
        *(saved(small, kind) for kind in FORMATS),
        saved(small.convert("CMYK"), "JPEG"),
        saved(small.convert("P"), "PNG", transparency=3),
        saved(Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30) * 100), "PNG"),
        saved(small, "GIF", save_all=True, append_images=[picture(2, (20, 14))]),
        saved(small, "WEBP", save_all=True, append_images=[picture(2, (20, 14))]),
        saved(small, "JPEG", exif=exif.tobytes(), progressive=True),
        saved(small, "PNG", exif=exif.tobytes()),
    )


def notes() -> bytes:
    digest = hashlib.sha256(saved(picture(1))).hexdigest()
    facts = {"digest": digest, "size": 3, "width": 2, "height": 2, "phash": 5, "error": ""}
    return json.dumps(facts).encode() + b"\n"


def config() -> bytes:
    return config_toml(
        load_config(None, {"recipe.views": ["a"], "data.columns": {"id": "x"}})
    ).encode()


def config_settings() -> st.SearchStrategy[str]:
    values = load_config(None, {})
    sections = {"data": values.data, "features": values.features, "study": values.study}
    keys = [f"{name}.{key}" for name, part in sections.items() for key in vars(part)]
    keys += [f"recipe.{key}" for key in vars(values.recipe)]
    word = st.sampled_from([*keys, "cache", "run", "data", "recipe", "", ".", "x.y.z"])
    value = st.one_of(
        st.text(max_size=20),
        st.integers().map(str),
        st.sampled_from(["9" * 5000, "9" * 400, "0x" + "f" * 4400, "[" * 3000, "{x=1}", "nan"]),
        st.sampled_from(["", "'", '"\\u0000"', "'x'", "[1]", "1e400", "true", "../x", "x" * 9000]),
    )
    return st.builds("{}={}".format, word, value)


def encoder_json() -> st.SearchStrategy[tuple[str, Any]]:
    names = [name for name in bert() if name.endswith(".json")]
    return st.sampled_from(names).flatmap(
        lambda name: st.tuples(st.just(name), odd_json(json.loads(bert()[name])))
    )


def models() -> st.SearchStrategy[tuple[Any, bytes]]:
    good = model()
    return st.one_of(
        st.tuples(odd_json(good.description), st.just(good.weights)),
        st.tuples(st.just(dict(good.description)), bytes_like(good.weights)),
    )


Try = Callable[[Any, Path], str]
#: The inputs, what is done with them, and how many are tried in the full run.
KINDS: Mapping[str, tuple[Callable[[], st.SearchStrategy[Any]], Try, int]] = {
    "label files": (lambda: bytes_like(LABELS), try_label_file, 1000),
    "tables": (
        lambda: st.sampled_from(sorted(TABLES)).flatmap(
            lambda ending: st.tuples(st.just(ending), bytes_like(TABLES[ending]))
        ),
        try_table,
        2000,
    ),
    "texts": (lambda: st.lists(bytes_like(*TEXTS), max_size=6), try_texts, 1000),
    "images": (lambda: bytes_like(*images()), try_image, 2000),
    "configurations": (lambda: bytes_like(config()), try_config, 1000),
    "settings": (config_settings, try_setting, 1000),
    "models": (models, try_model, 1500),
    "parts": (lambda: bytes_like(part()[1]), try_part, 1000),
    "notes": (
        lambda: st.one_of(
            bytes_like(notes()), odd_json(json.loads(notes())).map(lambda v: json.dumps(v).encode())
        ),
        try_notes,
        500,
    ),
    "encoder weights": (lambda: bytes_like(bert()["model.safetensors"]), try_weights, 500),
    "encoder settings": (encoder_json, try_encoder_json, 500),
}


def fuzz(kind: str, count: int, place: Path) -> Counter[str]:
    """Try `count` inputs of one kind, each in an empty folder."""
    make, attempt, _ = KINDS[kind]
    counts: Counter[str] = Counter()
    bf16_is_faster()  # its verdict is written once, and not by an input

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(make())
    def run(value: Any) -> None:
        folder = place / "one"
        rmtree(folder, ignore_errors=True)
        folder.mkdir()
        counts[attempt(value, folder)] += 1

    run()
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_read_or_refused_in_words(kind: str, tmp_path: Path) -> None:
    counts = fuzz(kind, QUICK, tmp_path)
    assert counts["refused"] or kind in ("texts", "notes")


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_bad_inputs_are_read_or_refused_in_words(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = fuzz(kind, KINDS[kind][2], tmp_path)
    with capsys.disabled():
        print(f"\n{kind:<18}{counts.total():>7} tried{counts['refused']:>7} refused", end="")
        print(f"{counts['read']:>7} read", end="")


def test_the_full_run_tries_ten_thousand_inputs() -> None:
    assert sum(count for _, _, count in KINDS.values()) >= 10_000


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_cut_at_any_64th_is_refused_or_whole(kind: str, tmp_path: Path) -> None:
    data = saved(picture(5, (90, 70)), kind)
    whole = open_image(data).tobytes()
    for share in range(64):
        with bounded():
            try:
                found = open_image(data[: len(data) * share // 64])
            except DataError as error:
                check_words(error)
            else:
                assert found.tobytes() == whole, share


def _other_formats() -> list[str]:
    Image.init()
    return sorted(set(Image.SAVE) - {*FORMATS, "MPO"})  # an MPO file is a JPEG and more


def _picture_as(kind: str) -> bytes | None:
    for mode in ("RGB", "L", "1", "P"):
        try:
            return saved(picture(1).convert(mode), kind)
        except Exception:  # this writer wants another mode, or a library that is not here
            continue
    return None


def test_a_format_that_is_not_on_the_list_stays_unread() -> None:
    written = {kind: data for kind in _other_formats() if (data := _picture_as(kind))}
    assert {"BMP", "TIFF", "PDF", "ICO"} <= written.keys()
    for data in written.values():
        with pytest.raises(DataError, match="not a JPEG, PNG, WebP or GIF picture"):
            open_image(data)


def _png(width: int, height: int, *, body: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc32(name + data))
        for name, data in chunks
    )


STRANGE: Mapping[str, bytes] = {
    "no width": _png(0, 5),
    "no height": _png(5, 0),
    "nothing inside": _png(5, 5),
    "bomb": _png(30_000, 30_000, body=compress(bytes(10**6))),
    "thin bomb": _png(2**31 - 1, 1, body=compress(bytes(10**6))),
    "text bomb": saved(picture(1))[:33]
    + (lambda data: struct.pack(">I", len(data)) + b"zTXt" + data + bytes(4))(
        b"k\0\0" + compress(bytes(2**27))
    )
    + saved(picture(1))[33:],
}


@pytest.mark.parametrize("case", STRANGE)
def test_a_strange_picture_is_refused_in_little_memory(case: str, tmp_path: Path) -> None:
    assert outcome(lambda: open_image(STRANGE[case]), tmp_path) == "refused"


# --- files that are no files, names that are no names --------------------------------------------


@pytest.mark.parametrize("name", ["data/1.txt", "data/1.png", "train.txt"])
@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "dangling link", "huge"])
def test_a_file_that_is_none_does_not_hang(name: str, kind: str, tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"1": "good", "2": "bad"})
    path = root / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        path.symlink_to("/dev/zero" if kind == "endless device" else "/no/such/file")
    leads_out = kind in ("endless device", "dangling link")
    for follow, refused in ((False, leads_out or name == "train.txt"), (True, name == "train.txt")):
        found = outcome(
            lambda follow=follow: load_dataset(
                root, facts_file=tmp_path / "notes", follow_links=follow
            ),
            tmp_path,
        )
        assert found == ("refused" if refused else "read")


@pytest.mark.parametrize(
    "root", ["/dev/zero", "/dev/null", "x" * 300, "a\0b", "\udcff", ""], ids=ascii
)
def test_a_place_that_is_none_is_refused(root: str, tmp_path: Path) -> None:
    assert outcome(lambda: load_dataset(tmp_path / root), tmp_path) == "refused"


NAMES = {"lone surrogate": "\ud800.png", "null": "a\0.png", "long": "x" * 5000, "dots": "../x.png"}


@pytest.mark.parametrize("case", NAMES)
def test_a_name_that_no_file_has_is_no_crash(case: str, tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    for part_name in ("image", "text_file", "label", "id", "split"):
        row = {"id": "1", "text": "one", "label": "good", part_name: NAMES[case]}
        path.write_text(json.dumps(row) + "\n")
        cache = ["--cache", str(tmp_path / "cache")]
        assert main(["check-data", "--data", str(path), *cache]) in (0, 1)
        assert outcome(lambda: load_dataset(path), tmp_path) in ("read", "refused")


@pytest.mark.parametrize("flag", ["--batch-size", "--workers", "--max-length"])
def test_a_negative_number_is_refused_and_does_not_hang(flag: str, tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", {"1": "good", "2": "bad"})
    places = ["--data", str(root), "--cache", str(tmp_path / "cache")]
    with bounded():
        assert main(["features", "--encoders", "ngram", flag, "-1", *places]) == 1


# --- pickles ------------------------------------------------------------------------------------


class _Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


#: Where a pickle is put, relative to the world, and the command that reads it.
PLACES: Mapping[str, tuple[str, str]] = {
    "a part": ("cache/features/{ngram}/parts/" + "0" * 32 + ".h5", "features --encoders ngram"),
    "a part that is proven": ("cache/features/{ngram}/parts/" + "0" * 32 + ".h5", "cache verify"),
    "the notes": ("cache/image_facts/images.jsonl", "check-data"),
    "the weights": ("cache/runs/set/model/weights.safetensors", "predict"),
    "the description": ("cache/runs/set/model/model.json", "predict"),
    "the journal": ("cache/runs/set/study.log", "tune --encoders ngram --folds 2 --trials 1"),
    "the best recipe": ("cache/runs/set/best.toml", "train --encoders ngram --folds 2"),
    "a configuration": ("config.toml", "features --config {place}/config.toml"),
    "a label file": ("set/train.txt", "check-data"),
    "a text": ("set/data/1.txt", "features --encoders ngram"),
    "an image": ("set/data/1.png", "check-data"),
    "a csv table": ("set.csv", "check-data --data {place}/set.csv"),
    "a tsv table": ("set.tsv", "check-data --data {place}/set.tsv"),
    "a jsonl table": ("set.jsonl", "check-data --data {place}/set.jsonl"),
    "an encoder's weights": ("bert/model.safetensors", "features --encoders text={place}/bert"),
    "an encoder's old weights": ("bert/pytorch_model.bin", "features --encoders text={place}/bert"),
    "an encoder's configuration": ("bert/config.json", "features --encoders text={place}/bert"),
    "an encoder's vocabulary": ("bert/vocab.txt", "features --encoders text={place}/bert"),
    "an encoder's tokenizer": ("bert/tokenizer.json", "features --encoders text={place}/bert"),
    "a state dict": ("net.pth", "features --encoders efficientnet-lite0={place}/net.pth"),
    "a state dict .pt": ("net.pt", "features --encoders image={place}/net.pt"),
    "a safe state dict": (
        "net.safetensors",
        "features --encoders image={place}/net.safetensors",
    ),
}


#: A pickle of protocol 0 is text; where text is read, a newer one would be refused by its bytes.
_TEXT_ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".toml", ".log")


@pytest.mark.parametrize("case", PLACES)
def test_a_pickle_is_never_executed(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, command = PLACES[case]
    protocol = 0 if file.endswith(_TEXT_ENDINGS) else 4
    labels = {str(n): "good" if n % 2 else "bad" for n in range(8)}
    root = write_set(tmp_path / "set", labels, ["9"])
    [encoder] = build_encoders(["ngram"], device="cpu")
    path = tmp_path / file.format(ngram=f"ngram-{fingerprint(encoder)[:8]}")
    if file.startswith("bert"):
        write_bert(tmp_path / "bert", {})
    if "old" in case:
        (tmp_path / "bert" / "model.safetensors").unlink()
    if "runs" in file:
        write_model(tmp_path / "cache" / "runs" / "set" / "model")
    path.parent.mkdir(parents=True, exist_ok=True)
    data = pickle.dumps(_Trap(tmp_path / "marker"), protocol)
    path.write_bytes(data)
    words = command.format(place=tmp_path).split()
    if words[0] != "cache":
        words += [] if "--data" in words else ["--data", str(root)]
        words += ["--device", "cpu"] if words[0] in ("features", "tune", "train") else []
    status = main([*words, "--cache", str(tmp_path / "cache")])
    assert not (tmp_path / "marker").exists()
    assert status in (0, 1)
    assert "Traceback" not in capsys.readouterr().err
    pickle.loads(data)
    assert (tmp_path / "marker").exists(), "the trap is no trap"


def write_model(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(model().description))
    (folder / "weights.safetensors").write_bytes(model().weights)
