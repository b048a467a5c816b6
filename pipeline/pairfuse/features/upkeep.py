"""Upkeep: list, prove, mend, thin out, hand over and remove feature stores."""

from __future__ import annotations

import contextlib
import re
import shutil
import stat
import tarfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfuse.arrays import Ints
from pairfuse.console import progress
from pairfuse.errors import DamageError, StoreError
from pairfuse.features.hdf5_schema import SUFFIX
from pairfuse.features.part import Part, damaged_rows, open_part, pack, read_rows, read_tokens
from pairfuse.features.store import store_name
from pairfuse.files import listed, sweep, sync_folder, temporary_name, write_bytes

_STORE = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{8}")
_MEMBER = re.compile(rf"({_STORE.pattern})/([0-9a-f]{{32}}{re.escape(SUFFIX)})")
#: Where repair puts the parts that it takes out, beside the folder of the sound ones.
DAMAGED = "damaged"
_KEYS = ("encoder", "modality", "fingerprint", "made_from", "created", "version")


@dataclass(frozen=True)
class StoreFacts:
    """What is known of one store; `damaged` names each bad part, `lost` the keys of bad rows.

    `set_aside` counts the damaged parts that repairs have taken out.
    """

    name: str
    rows: int
    dim: int
    parts: int
    size: int
    created: str
    version: str
    damaged: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    tokens: int = 0
    seconds: float = 0.0
    set_aside: int = 0


@dataclass(frozen=True)
class Unused:
    """What a store can do without: rows, damaged parts set aside, and about how many bytes."""

    rows: int
    set_aside: int
    size: int


def list_stores(cache: Path) -> list[StoreFacts]:
    """Look at the head of every part of every store."""
    return [_facts(folder, prove=False, repair=False) for folder in _folders(cache)]


def verify_stores(cache: Path, *, repair: bool = False) -> list[StoreFacts]:
    """Prove every row of every store.

    Args:
        cache: The cache folder.
        repair: Keep the sound rows of a damaged part in a new one and set the damaged one aside,
            in the store's folder `damaged`, until `thin_out`; `features` then computes what was
            lost.

    Raises:
        OSError: The system could not read a part just now; it stays as it is.
    """
    return [_facts(folder, prove=True, repair=repair) for folder in _folders(cache)]


def remove_store(cache: Path, name: str) -> None:
    """Delete one store by the name that `cache ls` shows.

    Raises:
        StoreError: There is no store of this name.
    """
    sweep(cache / "features")
    doomed = cache / "features" / temporary_name()
    _folder(cache, name).rename(doomed)  # at once, also while another process writes into it
    shutil.rmtree(doomed)


def thin_out(cache: Path, used: Collection[bytes], *, remove: bool) -> dict[str, Unused]:
    """Count, and with `remove` drop, the rows of every store whose key is not among `used`.

    With `remove`, what repairs set aside goes too.

    Returns:
        What is not used, by store.

    Raises:
        StoreError: A part is damaged.
    """
    out = {}
    for folder in _folders(cache):
        count, size = 0, 0.0
        for path in _files(folder):
            with contextlib.suppress(FileNotFoundError):  # joined meanwhile: for the next call
                part = open_part(path)
                unused = np.array([key.tobytes() not in used for key in part.keys], dtype=bool)
                count += int(unused.sum())
                size += path.stat().st_size * float(unused.mean()) if len(unused) else 0.0
                if remove and unused.any():
                    _rewrite(part, np.flatnonzero(~unused))
                    path.unlink(missing_ok=True)
        aside = listed(folder / DAMAGED, "*")
        out[folder.name] = Unused(count, len(aside), int(size + sum(map(_size, aside))))
        if remove and aside:
            shutil.rmtree(folder / DAMAGED)
        if remove and not _files(folder):
            remove_store(cache, folder.name)
    return out


def _size(path: Path) -> int:
    return path.stat().st_size


def export_store(cache: Path, name: str, target: Path) -> int:
    """Pack one store into one tar file; returns the number of distinct rows.

    Raises:
        StoreError: There is no such store, a row of it is damaged, or the file cannot be written.
    """
    folder, done = _folder(cache, name), set[Path]()
    keys = set[bytes]()
    temporary = target.parent / temporary_name()
    try:
        with _writing(target), tarfile.open(temporary, "x") as archive:
            while more := [path for path in _files(folder) if path not in done]:
                for path in more:  # some may be joined meanwhile: the next look finds them
                    done.add(path)
                    with contextlib.suppress(FileNotFoundError):
                        part = _proven(path)
                        archive.add(path, f"{name}/{path.name}", recursive=False)
                        keys.update(key.tobytes() for key in part.keys)
        temporary.replace(target)
        sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
    return len(keys)


def import_store(cache: Path, source: Path) -> tuple[str, int]:
    """Take over a store that `export_store` packed; every row is proven before it is kept.

    Returns:
        The store's name and the number of rows in the file.

    Raises:
        StoreError: The file is no export, or a part of it is damaged.
    """
    rows, names = 0, set()
    try:
        size = _plain_size(source)
        with tarfile.open(source, "r:") as archive:
            for member in archive:
                found = _MEMBER.fullmatch(member.name)
                if found is None or not member.isreg():
                    raise StoreError(f"{source} holds {member.name[:80]!r}, which no export holds")
                if member.issparse() or member.offset_data + member.size > size:
                    raise StoreError(
                        f"{source} holds {member.name[:80]!r}, which is sparse or cut: it declares "
                        f"{member.size} bytes; export it again"
                    )
                stream = archive.extractfile(member)
                assert stream is not None  # it is a plain file
                names.add(found[1])
                try:
                    rows += _take(cache, found[1], found[2], stream.read())
                except DamageError as error:
                    raise DamageError(f"{source}: {member.name} {_reason(error)}") from error
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{source} is not a whole export ({error}); export it again") from error
    except OSError as error:
        raise StoreError(f"{source} cannot be taken over ({error.strerror or error})") from error
    if len(names) != 1:
        raise StoreError(f"{source} holds {len(names)} stores, expected one; export it again")
    return names.pop(), rows


def _plain_size(source: Path) -> int:
    """Bytes of a file; a pipe would be waited for."""
    found = source.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{source} is not a plain file; name the file that `cache export` wrote")
    return found.st_size


def _reason(error: DamageError) -> str:
    """What is wrong, without the temporary place where it was looked at and what mends a store."""
    _, _, reason = str(error).partition(" is refused: ")
    return f"is refused: {reason.partition(';')[0]}; export it again"


def _take(cache: Path, name: str, file: str, data: bytes) -> int:
    """Write one part beside the store, prove it, and only then move it in."""
    folder = cache / "features" / name / "parts"
    trial = cache / "features" / temporary_name()
    try:
        write_bytes(trial / file, data)
        part = _proven(trial / file)
        if _store_of(part) != name:
            raise StoreError(f"part {file} was made by another encoder than {name}")
        folder.mkdir(parents=True, exist_ok=True)
        (trial / file).replace(folder / file)
        sync_folder(folder)
    finally:
        shutil.rmtree(trial, ignore_errors=True)
    return len(part.keys)


def _store_of(part: Part) -> str:
    made = part.attributes
    return store_name(made["encoder"], made["fingerprint"], has_tokens=part.tokens is not None)


def _proven(path: Path) -> Part:
    part = open_part(path)
    bad = damaged_rows(part)
    if len(bad):
        raise DamageError(f"{path} is refused: {len(bad)} of {len(part.keys)} rows are damaged")
    return part


def _facts(folder: Path, *, prove: bool, repair: bool) -> StoreFacts:
    start = time.perf_counter()
    sound: list[Part] = []
    damaged: list[str] = []
    lost: list[str] = []
    files = _files(folder)
    size = 0
    with progress(f"proving {folder.name}"[:22], len(files) if prove else 0, unit="parts") as bar:
        for path in files:
            try:
                size += path.stat().st_size
                part = open_part(path)
                if not part.attributes["fingerprint"].startswith(folder.name[-8:]):
                    raise DamageError(f"{path} is refused: it belongs to another encoder's store")
                bad = damaged_rows(part) if prove else np.empty(0, dtype=np.int64)
            except FileNotFoundError:  # another process has joined it into a larger one
                continue
            except DamageError as error:  # and nothing else: what was not read is not damaged
                damaged.append(str(error))
                if repair:
                    _set_aside(path)
                continue
            finally:
                bar.update()
            sound.append(part)
            if len(bad):
                damaged.append(f"{path}: {len(bad)} of {len(part.keys)} rows are damaged")
                lost += [part.keys[row].tobytes().hex() for row in bad.tolist()]
                if repair:
                    _rewrite(part, np.setdiff1d(np.arange(len(part.keys)), bad))
                    _set_aside(path)
    keys = {key.tobytes() for part in sound for key in part.keys} - {bytes.fromhex(k) for k in lost}
    return StoreFacts(
        name=folder.name,
        rows=len(keys),
        dim=int(sound[0].attributes["dim"]) if sound else 0,
        parts=len(files),
        size=size,
        created=min((part.attributes["created"] for part in sound), default=""),
        version=max((part.attributes["version"] for part in sound), default=""),
        damaged=tuple(damaged),
        lost=tuple(lost),
        tokens=sum(int(part.attributes.get("tokens", 0)) for part in sound),
        seconds=time.perf_counter() - start,
        set_aside=len(listed(folder / DAMAGED, f"*{SUFFIX}")),
    )


def _set_aside(path: Path) -> None:
    """Take a damaged part out of the store without losing a byte of it."""
    place = path.parents[1] / DAMAGED
    place.mkdir(exist_ok=True)
    path.replace(place / path.name)
    sync_folder(place)


def _rewrite(part: Part, keep: Ints) -> None:
    """Write a part that holds the named rows of this one alone.

    Each row is proven: its new checksum must not vouch for damage.
    """
    if len(keep):
        kept = {name: part.attributes[name] for name in _KEYS}
        tokens = read_tokens(part, keep) if part.tokens else None
        name, data = pack(kept, part.keys[keep], read_rows(part, keep), tokens)
        write_bytes(part.path.with_name(name), *data)


def _folders(cache: Path) -> list[Path]:
    found = listed(cache / "features", "*")
    return [path for path in found if path.is_dir() and _STORE.fullmatch(path.name)]


def _files(folder: Path) -> list[Path]:
    found = listed(folder / "parts", f"*{SUFFIX}")
    return [path for path in found if not path.is_dir()]


def _folder(cache: Path, name: str) -> Path:
    for folder in _folders(cache):
        if folder.name == name:
            return folder
    raise StoreError(f"no store {name!r} in {cache / 'features'}; see `pairfuse cache ls`")


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {target} ({error.strerror or error})") from error
