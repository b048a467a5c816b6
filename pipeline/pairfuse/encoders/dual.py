"""Dual encoders: a text encoder and an image encoder in one checkpoint, each a view of its own.

CLIP, SigLIP, Chinese-CLIP and FLAVA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder
from pairfuse.encoders.base import Encoder, Precision
from pairfuse.encoders.image import LoadedImage, load_processor
from pairfuse.encoders.network import load_network
from pairfuse.encoders.text import LoadedText, load_tokenizer, usable_length
from pairfuse.encoders.truncation import Truncation, in_fingerprint
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DualFamily:
    """What a kind of checkpoint calls its parts.

    Attributes:
        widths: Where its config gives the width of each encoder; the first key that is there.
        unused: Parts that each encoder does without.
        pooling: `projected` is the output that the checkpoint compares; `cls` is the first state
            of an encoder whose projection no trained head reads.
        padded: Trained on texts padded to their full length, without a mask.
        untrained: Parts that may lack weights, since neither encoder uses them.
    """

    widths: Mapping[Modality, tuple[str, ...]]
    unused: Mapping[Modality, tuple[str, ...]]
    pooling: str = "projected"
    padded: bool = False
    untrained: tuple[str, ...] = ()


_UNUSED: Mapping[Modality, tuple[str, ...]] = {"text": ("vision_model",), "image": ("text_model",)}
_PROJECTED: Mapping[Modality, tuple[str, ...]] = {
    "text": ("projection_dim",),
    "image": ("projection_dim",),
}
DUAL_FAMILIES: Mapping[str, DualFamily] = {
    "clip": DualFamily(widths=_PROJECTED, unused=_UNUSED),
    "chinese_clip": DualFamily(widths=_PROJECTED, unused=_UNUSED),
    # SigLIP 2 of fixed resolution is a siglip too, with another tokenizer
    "siglip": DualFamily(
        widths={
            "text": ("text_config.projection_size", "text_config.hidden_size"),
            "image": ("vision_config.hidden_size",),
        },
        unused=_UNUSED,
        padded=True,
    ),
    "flava": DualFamily(
        widths={"text": ("text_config.hidden_size",), "image": ("image_config.hidden_size",)},
        unused={
            "text": ("image_model", "multimodal_model"),
            "image": ("text_model", "multimodal_model"),
        },
        pooling="cls",
        untrained=(
            "text_model.pooler.",
            "image_model.pooler.",
            "multimodal_model.pooler.",
            "text_projection.",
            "image_projection.",
            "logit_scale",
        ),
    ),
}


@dataclass(frozen=True)
class DualEncoder:
    """The text encoder or the image encoder of a checkpoint that holds both.

    Its features are the output that the checkpoint compares.
    """

    name: str
    modality: Modality
    folder: Path
    max_length: int
    precision: Precision
    batch_size: int = 32
    truncation: Truncation = "head"

    @cached_property
    def dim(self) -> int:
        """Width of the space that it projects to."""
        return dual_width(self.folder, self.modality)

    @property
    def token_dim(self) -> int:
        """Width of its last layer, before any projection."""
        keys = {
            "text": ("text_config.hidden_size",),
            "image": ("vision_config.hidden_size", "image_config.hidden_size"),
        }[self.modality]
        width = checkpoint_folder.setting(
            self.folder, checkpoint_folder.read_config(self.folder), *keys
        )
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({keys[0]})")
        return width

    @property
    def has_summary(self) -> bool:
        """Pictures have a class token but in SigLIP; CLIP's texts end in theirs."""
        family = DUAL_FAMILIES[checkpoint_folder.read_config(self.folder)["model_type"]]
        return family.pooling == "cls" or (self.modality == "image" and not family.padded)

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights and config, and how its input is prepared."""
        if self.modality == "text":
            tokenizer = checkpoint_folder.tokenizer_digest(self.folder)
            inputs: dict[str, Any] = {"tokenizer": tokenizer, "max_length": self.max_length}
            inputs |= in_fingerprint(self.truncation)
        else:
            inputs = {"image": {"backend": "pil", **checkpoint_folder.image_settings(self.folder)}}
        config = checkpoint_folder.read_config(self.folder)
        return {
            "kind": f"joint {self.modality}",
            "weights": checkpoint_folder.weights_digest(
                checkpoint_folder.weight_files(self.folder)
            ),
            "config": checkpoint_folder.config_digest(config),
            "pooling": DUAL_FAMILIES[config["model_type"]].pooling,
            "precision": self.precision,
            **inputs,
        }

    def load(self, device: str) -> LoadedText | LoadedImage:
        """Read the checkpoint, keep one encoder of it, frozen on a device."""
        family = DUAL_FAMILIES[checkpoint_folder.read_config(self.folder)["model_type"]]
        network = load_network(
            self.folder,
            self.precision,
            device,
            untrained=family.untrained,
            without=family.unused[self.modality],
        )
        if self.modality == "image":
            pixels, crop = load_processor(self.folder)
            return LoadedImage(
                name=self.name,
                dim=self.dim,
                device=device,
                precision=self.precision,
                pixels=pixels,
                features=lambda pixels: image_features(network, pixels),
                crop=crop,
            )
        tokenizer, pad_id = load_tokenizer(self.folder, self.max_length, self.truncation)
        return LoadedText(
            name=self.name,
            dim=self.dim,
            device=device,
            tokenizer=tokenizer,
            pad_id=pad_id,
            features=lambda ids, mask: text_features(network, ids, mask),
            pad_to=full_length(network),
        )


def dual_width(folder: Path, modality: Modality) -> int:
    """Width of what the text or the image encoder of a checkpoint gives."""
    config = checkpoint_folder.read_config(folder)
    keys = DUAL_FAMILIES[config["model_type"]].widths[modality]
    width = checkpoint_folder.setting(folder, config, *keys)
    if width is None:
        raise EncoderError(f"{folder}/config.json gives no width ({keys[0]})")
    return width


def text_features(network: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the text encoder, (B, D), and its last states, (B, T, D')."""
    family = DUAL_FAMILIES[network.config.model_type]
    if family.pooling == "cls":
        states: Tensor = network.text_model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[:, 0], states
    output = network.get_text_features(
        input_ids=ids, attention_mask=None if family.padded else mask
    )
    return output.pooler_output, output.last_hidden_state


def image_features(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the image encoder, (B, D), and its last states, (B, T, D')."""
    if DUAL_FAMILIES[network.config.model_type].pooling == "cls":
        states: Tensor = network.image_model(pixel_values=pixels).last_hidden_state
        return states[:, 0], states
    output = network.get_image_features(pixel_values=pixels)
    return output.pooler_output, output.last_hidden_state


def full_length(network: Any) -> int:
    """Tokens that a text must be padded to; 0 where it need not be."""
    padded = DUAL_FAMILIES[network.config.model_type].padded
    return int(network.config.text_config.max_position_embeddings) if padded else 0


def build_dual(
    views: Sequence[tuple[str, Modality]],
    folder: Path,
    *,
    max_length: int,
    precision: Precision,
    truncation: Truncation = "head",
) -> list[Encoder]:
    """Describe the wanted encoders, (view name, modality), of the checkpoint in a folder."""
    config = checkpoint_folder.read_config(folder)
    if config["model_type"] not in DUAL_FAMILIES:
        raise EncoderError(
            f"{folder} holds a {config['model_type']} model, expected a dual encoder "
            f"({', '.join(sorted(DUAL_FAMILIES))}); give it as text=... or image=..."
        )
    checkpoint_folder.weight_files(folder)
    positions = checkpoint_folder.setting(folder, config, "text_config.max_position_embeddings")
    length = usable_length(max_length, positions)
    for _, modality in views:  # what their input needs is there
        if modality == "text":
            checkpoint_folder.tokenizer_digest(folder)
        else:
            checkpoint_folder.image_settings(folder)
    return [
        DualEncoder(
            name=name,
            modality=modality,
            folder=folder,
            max_length=length,
            precision=precision,
            truncation=truncation,
        )
        for name, modality in views
    ]
