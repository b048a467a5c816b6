"""Joint encoders: one pass over a text with its image, one vector for the pair.

FLAVA's multimodal state, ViLT, BLIP's image-text state; and how far text and image vector of a
dual encoder agree. A pair that lacks its text or its image has no features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pairfuse.arrays import Bytes, Floats
from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder
from pairfuse.encoders.base import EncoderInput, LoadedEncoder, Precision
from pairfuse.encoders.dual import (
    DUAL_FAMILIES,
    dual_width,
    full_length,
    image_features,
    text_features,
)
from pairfuse.encoders.image import as_input, image_errors, load_processor
from pairfuse.encoders.network import load_network, stack, to_device, to_host
from pairfuse.encoders.pixels import Crop
from pairfuse.encoders.text import load_tokenizer, padded, tokenised, usable_length
from pairfuse.encoders.truncation import TextTokenizer, Truncation, in_fingerprint
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B pairs as a network takes them.

    Shapes are (B, T) for ids and mask, (B, 3, H, W) for pixels; `seen` (B, H, W) is 1 where a
    picture is and 0 where a smaller one was padded.
    """

    ids: Tensor
    mask: Tensor
    pixels: Tensor
    seen: Tensor


@dataclass(frozen=True, kw_only=True)
class JointNetwork:
    """How a kind of checkpoint makes one vector of a pair.

    Attributes:
        width: Of that vector, for the checkpoint in a folder.
        features: From the network and a batch to features, (B, D).
        pooling: What those are, for the fingerprint.
        positions: Where the config says how many tokens a text may have.
        family: The class of transformers that has all the weights that are needed.
        untrained: Parts that may lack weights, since they are not used.
    """

    width: Callable[[Path], int]
    features: Callable[[Any, Batch], Tensor]
    pooling: str
    positions: str = "text_config.max_position_embeddings"
    family: str = "AutoModel"
    untrained: tuple[str, ...] = ()


@dataclass(frozen=True)
class JointEncoder:
    """A network over pairs known by its checkpoint folder."""

    name: str
    folder: Path
    max_length: int
    precision: Precision
    modality: Modality = "joint"
    batch_size: int = 16
    truncation: Truncation = "head"

    @property
    def _spec(self) -> JointNetwork:
        return JOINT_NETWORKS[checkpoint_folder.read_config(self.folder)["model_type"]]

    @cached_property
    def dim(self) -> int:
        """Width of the vector of a pair."""
        return self._spec.width(self.folder)

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights, tokenizer and config, and how text and image are prepared."""
        return {
            "kind": "pair",
            "weights": checkpoint_folder.weights_digest(
                checkpoint_folder.weight_files(self.folder)
            ),
            "tokenizer": checkpoint_folder.tokenizer_digest(self.folder),
            "config": checkpoint_folder.config_digest(checkpoint_folder.read_config(self.folder)),
            "image": {"backend": "pil", **checkpoint_folder.image_settings(self.folder)},
            "pooling": self._spec.pooling,
            "max_length": self.max_length,
            **in_fingerprint(self.truncation),
            "precision": self.precision,
        }

    def load(self, device: str) -> LoadedEncoder:
        """Read the weights onto a device, frozen."""
        spec = self._spec
        network = load_network(
            self.folder, self.precision, device, untrained=spec.untrained, family=spec.family
        )
        tokenizer, pad_id = load_tokenizer(self.folder, self.max_length, self.truncation)
        pixels, crop = load_processor(self.folder)
        is_dual = network.config.model_type in DUAL_FAMILIES
        return LoadedJoint(
            name=self.name,
            dim=self.dim,
            device=device,
            precision=self.precision,
            tokenizer=tokenizer,
            pad_id=pad_id,
            pixels=pixels,
            features=lambda batch: spec.features(network, batch),
            crop=crop,
            pad_to=full_length(network) if is_dual else 0,
        )


@dataclass(frozen=True)
class LoadedJoint:
    """From a text and an image to tokens and pixels, from those to features."""

    name: str
    dim: int
    device: str
    precision: Precision
    tokenizer: TextTokenizer
    pad_id: int
    pixels: Callable[[Image], Floats | Bytes]
    features: Callable[[Batch], Tensor]
    crop: Crop | None = None
    pad_to: int = 0

    @property
    def draft(self) -> int:
        """The shorter side below which a JPEG must not be decoded; 0 where it must be whole."""
        return self.crop.draft if self.crop else 0

    def prepare(self, raw: tuple[str, Image]) -> EncoderInput:
        """Token ids and pixels of one pair; safe in threads."""
        text, image = raw
        words = tokenised(text, self.tokenizer, self.pad_id, self.name)
        pixels = self.pixels(image if image.mode == "RGB" else image.convert("RGB"))
        return EncoderInput((words, pixels), truncated=words.truncated)

    def encode(self, batch: Sequence[EncoderInput]) -> Floats:
        """Features (B, D) of prepared pairs."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[EncoderInput]) -> Callable[[], Floats]:
        """Begin to encode prepared pairs; the result waits for their features."""
        import torch

        words, images = zip(*(prepared.value for prepared in batch), strict=True)
        with torch.inference_mode():
            ids, mask = padded(words, self.pad_id, self.pad_to, self.device)
            whole, seen = _one_shape(images)
            pixels = as_input(stack(whole, self.device), self.crop, self.precision)
            with image_errors(self.name, pixels):
                seen_there = to_device(seen, self.device)
                features = self.features(Batch(ids, mask, pixels, seen_there)).float()
            return to_host(features, self.name, self.dim)


def build_joint(
    name: str,
    folder: Path,
    *,
    max_length: int,
    precision: Precision,
    truncation: Truncation = "head",
) -> JointEncoder:
    """Describe the network over pairs in a folder."""
    config = checkpoint_folder.read_config(folder)
    if config["model_type"] not in JOINT_NETWORKS:
        raise EncoderError(
            f"{folder} holds a {config['model_type']} model, expected one that reads a text with "
            f"its image ({', '.join(sorted(JOINT_NETWORKS))})"
        )
    checkpoint_folder.weight_files(folder)
    checkpoint_folder.tokenizer_digest(folder)
    checkpoint_folder.image_settings(folder)
    positions = checkpoint_folder.setting(
        folder, config, JOINT_NETWORKS[config["model_type"]].positions
    )
    length = usable_length(max_length, positions)
    return JointEncoder(name, folder, length, precision, truncation=truncation)


def _one_shape(images: Sequence[Floats | Bytes]) -> tuple[list[Any], Bytes]:
    """Pictures of one shape as they are; others padded with zeros to the right and below.

    Floats are (3, H, W); bytes (H, W, 3) always have one shape.
    """
    first = images[0]
    if all(image.shape == first.shape for image in images):
        height, width = first.shape[:2] if first.dtype == np.uint8 else first.shape[1:]
        return list(images), np.ones((len(images), height, width), dtype=np.uint8)
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    whole = [np.zeros((3, height, width), dtype=np.float32) for _ in images]
    seen = np.zeros((len(images), height, width), dtype=np.uint8)
    for number, image in enumerate(images):
        _, high, wide = image.shape
        whole[number][:, :high, :wide] = image
        seen[number, :high, :wide] = 1
    return whole, seen


def _config_width(*keys: str) -> Callable[[Path], int]:
    def width(folder: Path) -> int:
        found = checkpoint_folder.setting(folder, checkpoint_folder.read_config(folder), *keys)
        if found is None:
            raise EncoderError(f"{folder}/config.json gives no width ({keys[0]})")
        return found

    return width


def _agreement_width(folder: Path) -> int:
    text, image = (dual_width(folder, modality) for modality in ("text", "image"))
    if text != image:
        raise EncoderError(
            f"{folder} gives text vectors of {text} and image vectors of {image} numbers, "
            "which cannot be compared"
        )
    return 1 + text


def _agreement(network: Any, batch: Batch) -> Tensor:
    """Cosine of text and image vector, then the product of their unit vectors, (B, 1 + D)."""
    import torch

    text, image = (
        torch.nn.functional.normalize(output.float(), dim=-1)
        for output in (
            text_features(network, batch.ids, batch.mask)[0],
            image_features(network, batch.pixels)[0],
        )
    )
    product = text * image
    return torch.cat([product.sum(dim=-1, keepdim=True), product], dim=-1)


def _flava(network: Any, batch: Batch) -> Tensor:
    output = network(input_ids=batch.ids, attention_mask=batch.mask, pixel_values=batch.pixels)
    states: Tensor = output.multimodal_embeddings
    return states[:, 0]


def _vilt(network: Any, batch: Batch) -> Tensor:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # it draws which of the padding it keeps, and masks it out
        pooled: Tensor = network(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            pixel_values=batch.pixels,
            pixel_mask=batch.seen,
        ).pooler_output
    return pooled


def _blip(network: Any, batch: Batch) -> Tensor:
    """The state that BLIP's image-text matching is read from."""
    image = network.vision_model(pixel_values=batch.pixels).last_hidden_state
    states: Tensor = network.text_encoder(
        input_ids=batch.ids, attention_mask=batch.mask, encoder_hidden_states=image
    ).last_hidden_state
    return states[:, 0]


_AGREEMENT = JointNetwork(width=_agreement_width, features=_agreement, pooling="cosine and product")
JOINT_NETWORKS: Mapping[str, JointNetwork] = {
    "clip": _AGREEMENT,
    "chinese_clip": _AGREEMENT,
    "siglip": _AGREEMENT,
    "flava": JointNetwork(
        width=_config_width("multimodal_config.hidden_size"),
        features=_flava,
        pooling="multimodal cls",
        untrained=DUAL_FAMILIES["flava"].untrained,
    ),
    "vilt": JointNetwork(
        width=_config_width("hidden_size"),
        features=_vilt,
        pooling="pooler",
        positions="max_position_embeddings",
    ),
    "blip": JointNetwork(
        width=_config_width("text_config.hidden_size"),
        features=_blip,
        pooling="image-text cls",
        family="BlipForImageTextRetrieval",
        untrained=("vision_proj.", "text_proj.", "itm_head."),
    ),
}
