"""A checkpoint folder read as plain files: config, weights, tokenizer; no torch, no unpickling."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pairfuse.errors import EncoderError

#: A safetensors header is a few hundred bytes per tensor; the format's own limit is 100 MB.
MAX_HEADER_BYTES = 100_000_000

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)

#: Keys of config.json that leave the features as they are.
NEUTRAL_KEYS = frozenset(
    {
        "_name_or_path",
        "architectures",
        "auto_map",
        "dtype",
        "finetuning_task",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "problem_type",
        "torch_dtype",
        "transformers_version",
        "use_cache",
    }
)


#: Checkpoints of transformers that are not read here, and why.
UNREADABLE = {
    "siglip2": "takes images of any size (naflex); use one of fixed size, as siglip2 is",
    "visual_bert": "reads regions that a detector of its own has found; use flava, vilt or blip",
    "lxmert": "reads regions that a detector of its own has found; use flava, vilt or blip",
}


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError) as error:
        raise EncoderError(f"{path} cannot be read as JSON ({error}); copy it again") from None
    if not isinstance(value, dict):
        raise EncoderError(f"{path} holds a JSON {type(value).__name__}, expected an object")
    return value


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder.

    Raises:
        EncoderError: The folder is not a checkpoint, or one whose weights lie elsewhere.
    """
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"{folder} is not a checkpoint: it has no config.json; "
            "give the folder that holds config.json and model.safetensors"
        )
    config = read_json(folder / "config.json")
    if not isinstance(config.get("model_type"), str):
        raise EncoderError(f"{folder}/config.json names no model_type; copy the checkpoint again")
    if "transformers_weights" in config or (folder / "adapter_config.json").is_file():
        raise EncoderError(f"{folder} is an adapter or points to other weights; merge it first")
    return config


def model_type(folder: Path) -> str:
    """The kind of a checkpoint.

    Raises:
        EncoderError: It is one that is not read here.
    """
    kind = str(read_config(folder)["model_type"])
    if kind in UNREADABLE:
        raise EncoderError(f"{folder} holds a {kind} model, which {UNREADABLE[kind]}")
    return kind


def setting(folder: Path, config: dict[str, Any], *paths: str) -> int | None:
    """The first whole number found under dotted paths of a config, else in its class's defaults."""
    found = _first_number(config, paths)
    if found is not None:
        return found
    from transformers import AutoConfig

    try:
        full = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise EncoderError(f"{folder}/config.json is not usable: {first_line(error)}") from None
    return _first_number(full.to_dict(), paths)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, for one-line reports."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The complete safetensors files of a folder, in order of name.

    Raises:
        EncoderError: There are none, one is missing, or one is cut short.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        names = [single.name]
    elif index.is_file():
        shards = read_json(index).get("weight_map")
        names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
    else:
        names = []
    if not names:
        raise EncoderError(f"{folder} holds no model.safetensors; {_ways_to_safetensors(folder)}")
    files = tuple(folder / name for name in names)
    for file in files:
        if file.parent != folder or file.suffix != ".safetensors" or not file.is_file():
            raise EncoderError(f"{folder} lacks the weight file {file.name}; copy it again")
        safetensors_header(file)
    return files


def safetensors_header(file: Path) -> dict[str, Any]:
    """The tensor table of one safetensors file whose size is what the table says."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise EncoderError(f"{file} is not a complete safetensors file; copy it again")
        raw = stream.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        end = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError):
        raise EncoderError(f"{file} is not a safetensors file; copy it again") from None
    if size != 8 + length + end:
        raise EncoderError(
            f"{file} is cut short: {size} bytes, expected {8 + length + end}; copy it again"
        )
    return dict(header)


def tensor_names(files: Sequence[Path]) -> frozenset[str]:
    """Names of all tensors in safetensors files."""
    return frozenset(name for file in files for name in safetensors_header(file))


def weights_digest(files: Sequence[Path]) -> str:
    """Sha256 (hex) over the contents of weight files, in order; paths do not enter."""
    return _joined([file_digest(file) for file in files])


def tokenizer_digest(folder: Path) -> str:
    """Sha256 (hex) over the names and contents of a folder's tokenizer files."""
    files = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not files:
        raise EncoderError(f"{folder} holds no tokenizer files, so it reads no text")
    return _joined([f"{file.name}:{file_digest(file)}" for file in files])


def config_digest(config: dict[str, Any]) -> str:
    """Sha256 (hex) over the keys of a config that can change features."""
    kept: Any = _without(config, NEUTRAL_KEYS)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def image_settings(folder: Path) -> dict[str, Any]:
    """How the checkpoint's images are prepared: size, crop, mean, std, interpolation."""
    settings: Any = None
    if (folder / "preprocessor_config.json").is_file():
        settings = read_json(folder / "preprocessor_config.json")
    elif (folder / "processor_config.json").is_file():
        settings = read_json(folder / "processor_config.json").get("image_processor")
    if not isinstance(settings, dict):
        raise EncoderError(
            f"{folder} holds no preprocessor_config.json, so it is not known how to prepare images"
        )
    neutral = {"processor_class", "use_fast", "backend", "auto_map", "tokenizer", "device"}
    kept: dict[str, Any] = _without(settings, neutral)
    return kept


def file_digest(file: Path) -> str:
    """Sha256 (hex) of one file, read in chunks; asked twice, read once."""
    stat = file.stat()
    return _file_digest(str(file), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, changed: int) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _without(value: Any, keys: frozenset[str] | set[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}


def _first_number(config: dict[str, Any], paths: Sequence[str]) -> int | None:
    for path in paths:
        value: Any = config
        for part in path.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, list) and value:
            value = value[-1]
        if isinstance(value, int) and value > 0:
            return value
    return None


def _ways_to_safetensors(folder: Path) -> str:
    pickles = sorted(file.name for file in folder.glob("*.bin"))
    if not pickles:
        return "the download may have broken off: copy the checkpoint again"
    return (
        f"{pickles[0]} is a pickle, which is never read: convert it with transformers' "
        "save_pretrained or get the safetensors version"
    )
