"""Two towers in one checkpoint (CLIP, SigLIP, Chinese-CLIP, FLAVA): each is a view of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.data.pairs import Modality
from pairfuse.encoders import folder as folders
from pairfuse.encoders.base import Encoder, Precision
from pairfuse.encoders.image import LoadedImage, load_processor
from pairfuse.encoders.network import load_network
from pairfuse.encoders.text import LoadedText, load_tokenizer, usable_length
from pairfuse.encoders.truncation import Truncation, in_fingerprint
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Family:
    """What a kind of checkpoint calls its parts.

    Attributes:
        widths: Where its config gives the width of a tower, first found first taken.
        others: Parts that a tower does without.
        pooling: `projected` is the output that the checkpoint compares; `cls` is the first state
            of a tower whose projection no trained head reads.
        padded: FittedModel on texts padded to their full length, without a mask.
        untrained: Parts that may lack weights, since no tower uses them.
    """

    widths: Mapping[Modality, tuple[str, ...]]
    others: Mapping[Modality, tuple[str, ...]]
    pooling: str = "projected"
    padded: bool = False
    untrained: tuple[str, ...] = ()


_OTHER: Mapping[Modality, tuple[str, ...]] = {"text": ("vision_model",), "image": ("text_model",)}
_PROJECTED: Mapping[Modality, tuple[str, ...]] = {
    "text": ("projection_dim",),
    "image": ("projection_dim",),
}
FAMILIES: Mapping[str, Family] = {
    "clip": Family(_PROJECTED, _OTHER),
    "chinese_clip": Family(_PROJECTED, _OTHER),
    # SigLIP 2 of fixed resolution is a siglip too, with another tokenizer
    "siglip": Family(
        {
            "text": ("text_config.projection_size", "text_config.hidden_size"),
            "image": ("vision_config.hidden_size",),
        },
        _OTHER,
        padded=True,
    ),
    "flava": Family(
        {"text": ("text_config.hidden_size",), "image": ("image_config.hidden_size",)},
        {
            "text": ("image_model", "multimodal_model"),
            "image": ("text_model", "multimodal_model"),
        },
        pooling="cls",
        untrained=(
            *("text_model.pooler.", "image_model.pooler.", "multimodal_model.pooler."),
            *("text_projection.", "image_projection.", "logit_scale"),
        ),
    ),
}


@dataclass(frozen=True)
class TowerEncoder:
    """One tower of a checkpoint with two: its output as the checkpoint compares it."""

    name: str
    modality: Modality
    folder: Path
    max_length: int
    precision: Precision
    batch_size: int = 32
    truncation: Truncation = "head"

    @cached_property
    def dim(self) -> int:
        """Width of the space that the tower projects to."""
        return tower_width(self.folder, self.modality)

    @property
    def token_dim(self) -> int:
        """Width of the tower's last layer, before any projection."""
        keys = {
            "text": ("text_config.hidden_size",),
            "image": ("vision_config.hidden_size", "image_config.hidden_size"),
        }[self.modality]
        width = folders.setting(self.folder, folders.read_config(self.folder), *keys)
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({keys[0]})")
        return width

    @property
    def has_summary(self) -> bool:
        """Pictures have a class token but in SigLIP; CLIP's texts end in theirs."""
        family = FAMILIES[folders.read_config(self.folder)["model_type"]]
        return family.pooling == "cls" or (self.modality == "image" and not family.padded)

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights and config, and how this tower's input is prepared."""
        if self.modality == "text":
            tokenizer = folders.tokenizer_digest(self.folder)
            inputs: dict[str, Any] = {"tokenizer": tokenizer, "max_length": self.max_length}
            inputs |= in_fingerprint(self.truncation)
        else:
            inputs = {"image": {"backend": "pil", **folders.image_settings(self.folder)}}
        config = folders.read_config(self.folder)
        return {
            "kind": f"joint {self.modality}",
            "weights": folders.weights_digest(folders.weight_files(self.folder)),
            "config": folders.config_digest(config),
            "pooling": FAMILIES[config["model_type"]].pooling,
            "precision": self.precision,
            **inputs,
        }

    def load(self, device: str) -> LoadedText | LoadedImage:
        """Read the checkpoint, keep one tower, frozen on a device."""
        family = FAMILIES[folders.read_config(self.folder)["model_type"]]
        network = load_network(
            self.folder,
            self.precision,
            device,
            untrained=family.untrained,
            without=family.others[self.modality],
        )
        if self.modality == "image":
            pixels, crop = load_processor(self.folder)
            return LoadedImage(
                *(self.name, self.dim, device, self.precision, pixels),
                lambda pixels: image_features(network, pixels),
                crop=crop,
            )
        tokenizer, pad_id = load_tokenizer(self.folder, self.max_length, self.truncation)
        return LoadedText(
            *(self.name, self.dim, device, tokenizer, pad_id),
            lambda ids, mask: text_features(network, ids, mask),
            pad_to=full_length(network),
        )


def tower_width(folder: Path, modality: Modality) -> int:
    """Width of what one tower of a checkpoint gives."""
    config = folders.read_config(folder)
    keys = FAMILIES[config["model_type"]].widths[modality]
    width = folders.setting(folder, config, *keys)
    if width is None:
        raise EncoderError(f"{folder}/config.json gives no width ({keys[0]})")
    return width


def text_features(network: Any, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the text tower, (B, D), and its last states, (B, T, D')."""
    family = FAMILIES[network.config.model_type]
    if family.pooling == "cls":
        states: Tensor = network.text_model(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[:, 0], states
    output = network.get_text_features(
        input_ids=ids, attention_mask=None if family.padded else mask
    )
    return output.pooler_output, output.last_hidden_state


def image_features(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Output of the image tower, (B, D), and its last states, (B, T, D')."""
    if FAMILIES[network.config.model_type].pooling == "cls":
        states: Tensor = network.image_model(pixel_values=pixels).last_hidden_state
        return states[:, 0], states
    output = network.get_image_features(pixel_values=pixels)
    return output.pooler_output, output.last_hidden_state


def full_length(network: Any) -> int:
    """Tokens that a text must be padded to; 0 where it need not be."""
    padded = FAMILIES[network.config.model_type].padded
    return int(network.config.text_config.max_position_embeddings) if padded else 0


def build_towers(
    views: Sequence[tuple[str, Modality]],
    folder: Path,
    *,
    max_length: int,
    precision: Precision,
    truncation: Truncation = "head",
) -> list[Encoder]:
    """Describe the wanted towers, (view name, modality), of the checkpoint in a folder."""
    config = folders.read_config(folder)
    if config["model_type"] not in FAMILIES:
        raise EncoderError(
            f"{folder} holds a {config['model_type']} model, expected one with two towers "
            f"({', '.join(sorted(FAMILIES))}); give it as text=... or image=..."
        )
    folders.weight_files(folder)
    positions = folders.setting(folder, config, "text_config.max_position_embeddings")
    length = usable_length(max_length, positions)
    for _, modality in views:
        _ = (
            folders.tokenizer_digest(folder)
            if modality == "text"
            else folders.image_settings(folder)
        )
    return [
        TowerEncoder(name, modality, folder, length, precision, truncation=truncation)
        for name, modality in views
    ]
