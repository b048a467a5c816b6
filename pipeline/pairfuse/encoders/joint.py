"""Joint encoders (CLIP, SigLIP): one checkpoint, two towers, each a view of its own."""

from __future__ import annotations

from collections.abc import Sequence
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
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

#: Where each family's config gives the width of a tower, first found first taken.
WIDTH_KEYS: dict[str, dict[Modality, tuple[str, ...]]] = {
    "clip": {"text": ("projection_dim",), "image": ("projection_dim",)},
    "siglip": {
        "text": ("text_config.projection_size", "text_config.hidden_size"),
        "image": ("vision_config.hidden_size",),
    },
}
JOINT_TYPES = frozenset(WIDTH_KEYS)

#: SigLIP was trained on texts padded to its full length, without a mask.
PADDED_TYPES = frozenset(("siglip",))


@dataclass(frozen=True)
class TowerEncoder:
    """One tower of a joint checkpoint: its projected output, as the checkpoint compares it."""

    name: str
    modality: Modality
    folder: Path
    max_length: int
    precision: Precision
    batch_size: int = 32

    @cached_property
    def dim(self) -> int:
        """Width of the space that both towers project to."""
        config = folders.read_config(self.folder)
        keys = WIDTH_KEYS[config["model_type"]][self.modality]
        width = folders.setting(self.folder, config, *keys)
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({keys[0]})")
        return width

    @property
    def token_dim(self) -> int:
        """Width of the tower's last layer, before the projection."""
        config = folders.read_config(self.folder)
        part = "text_config" if self.modality == "text" else "vision_config"
        width = folders.setting(self.folder, config, f"{part}.hidden_size")
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({part}.hidden_size)")
        return width

    @property
    def has_summary(self) -> bool:
        """CLIP's pictures have a class token; its texts end in theirs, SigLIP has none."""
        model_type = folders.read_config(self.folder)["model_type"]
        return self.modality == "image" and model_type not in PADDED_TYPES

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights and config, and how this tower's input is prepared."""
        if self.modality == "text":
            tokenizer = folders.tokenizer_digest(self.folder)
            inputs: dict[str, Any] = {"tokenizer": tokenizer, "max_length": self.max_length}
        else:
            inputs = {"image": {"backend": "pil", **folders.image_settings(self.folder)}}
        return {
            "kind": f"joint {self.modality}",
            "weights": folders.weights_digest(folders.weight_files(self.folder)),
            "config": folders.config_digest(folders.read_config(self.folder)),
            "pooling": "projected",
            "precision": self.precision,
            **inputs,
        }

    def load(self, device: str) -> LoadedText | LoadedImage:
        """Read the checkpoint, keep one tower, frozen on a device."""
        other = "vision_model" if self.modality == "text" else "text_model"
        network = load_network(self.folder, self.precision, device, without=other)
        return (
            self._text(network, device) if self.modality == "text" else self._image(network, device)
        )

    def _text(self, network: Any, device: str) -> LoadedText:
        config = network.config
        padded = config.model_type in PADDED_TYPES

        def features(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
            output = network.get_text_features(
                input_ids=ids, attention_mask=None if padded else mask
            )
            return output.pooler_output, output.last_hidden_state

        tokenizer, pad_id = load_tokenizer(self.folder, self.max_length)
        pad_to = config.text_config.max_position_embeddings if padded else 0
        return LoadedText(self.name, self.dim, device, tokenizer, pad_id, features, pad_to=pad_to)

    def _image(self, network: Any, device: str) -> LoadedImage:
        def features(pixels: Tensor) -> tuple[Tensor, Tensor]:
            output = network.get_image_features(pixel_values=pixels)
            return output.pooler_output, output.last_hidden_state

        pixels, crop = load_processor(self.folder)
        return LoadedImage(self.name, self.dim, device, self.precision, pixels, features, crop=crop)


def build_towers(
    views: Sequence[tuple[str, Modality]], folder: Path, *, max_length: int, precision: Precision
) -> list[Encoder]:
    """Describe the wanted towers, (view name, modality), of the joint checkpoint in a folder."""
    config = folders.read_config(folder)
    if config["model_type"] not in JOINT_TYPES:
        raise EncoderError(
            f"{folder} holds a {config['model_type']} model, expected one with two towers "
            f"({', '.join(sorted(JOINT_TYPES))}); give it as text=... or image=..."
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
    return [TowerEncoder(name, modality, folder, length, precision) for name, modality in views]
