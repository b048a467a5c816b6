"""Run data: a run folder remembers which data it is of; no command mixes two data sets in one run.

Data that were moved, or changed where they lie, are the same; only those that lie elsewhere and
have other labelled pairs are others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pairfuse.data.pairs import Dataset
from pairfuse.errors import ConfigError
from pairfuse.files import read_bytes, write_json

#: In a run folder: which data it is of.
DATA = "data.json"


@dataclass(frozen=True)
class RunData:
    """Where a data set lies, and the digest of its labelled pairs."""

    root: str
    digest: str


def data_of(root: str, dataset: Dataset) -> RunData:
    """What a run remembers of a data set: names, labels, texts and the bytes of images."""
    digest, images = hashlib.sha256(), dataset.images
    for pair in dataset.split("train", "val"):
        image = images[pair.guid].digest if pair.guid in images else None
        digest.update(json.dumps([pair.guid, pair.label, pair.text, image]).encode() + b"\n")
    return RunData(str(Path(root).resolve()), digest.hexdigest())


def read_data(folder: Path) -> RunData | None:
    """What a run folder remembers; none for a new run, or one from before it was written down.

    Raises:
        ConfigError: It is damaged.
    """
    path = folder / DATA
    try:
        found = json.loads(read_bytes(path))
        root, digest = found["root"], found["digest"]
        if not isinstance(root, str) or not isinstance(digest, str):
            raise TypeError("root and digest are words")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path}, which says of which data the run is, is damaged ({error}); remove it if the "
            f"run is of these data, or name another run, as in --run {folder.name}-2"
        ) from error
    return RunData(root, digest)


def check_data(folder: Path, data: RunData) -> None:
    """Refuse other data than those that the run is of.

    Raises:
        ConfigError: The run is of other data, or what says so is damaged.
    """
    known = read_data(folder)
    if known and known.root != data.root and known.digest != data.digest:
        raise ConfigError(
            f"{folder} is the run of other data ({known.root}, not {data.root}); name another run, "
            f"as in --run {folder.name}-2"
        )


def write_data(folder: Path, data: RunData) -> None:
    """Remember in a run folder which data it is of."""
    write_json(folder / DATA, {"root": data.root, "digest": data.digest})
