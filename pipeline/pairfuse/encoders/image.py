"""Image encoders from a checkpoint folder: its preparation, its network, one vector per image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pairfuse.arrays import Bytes, Floats
from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder
from pairfuse.encoders.base import EncoderInput, EncoderOutput, Precision
from pairfuse.encoders.network import (
    load_network,
    quiet,
    stack,
    to_host,
    torch_dtype,
    with_tokens,
)
from pairfuse.encoders.pixels import Crop, cropped, plain_crop, standardise
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

ImagePooling = Literal["pooler or mean", "cls"]

#: Networks whose pooler is trained; a checkpoint without its weights is read at the class token.
TRAINED_POOLER_TYPES = frozenset(("vit", "deit", "vit_hybrid", "yolos", "vivit"))
#: Networks whose first token stands for the whole picture.
CLASS_TOKEN_TYPES = frozenset(
    ("beit", "data2vec-vision", "deit", "dinov2", "dinov2_with_registers", "vit", "yolos")
)
WIDTH_KEYS = ("hidden_size", "hidden_sizes", "hidden_dim", "embed_dims", "num_features")

#: A longer image is first cut to its middle: scaling its short side up could fill the memory.
MAX_ASPECT = 16


@dataclass(frozen=True)
class ImageEncoder:
    """An image network known by its checkpoint folder."""

    name: str
    folder: Path
    pooling: ImagePooling
    precision: Precision
    modality: Modality = "image"
    batch_size: int = 32

    @cached_property
    def dim(self) -> int:
        """Width of the network's last layer."""
        width = checkpoint_folder.setting(
            self.folder, checkpoint_folder.read_config(self.folder), *WIDTH_KEYS
        )
        if width is None:
            raise EncoderError(f"{self.folder}/config.json gives no width ({WIDTH_KEYS[0]})")
        return width

    @property
    def token_dim(self) -> int:
        """Width of a patch, or of a cell of the last feature map."""
        return self.dim

    @property
    def has_summary(self) -> bool:
        return checkpoint_folder.read_config(self.folder)["model_type"] in CLASS_TOKEN_TYPES

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """Digests of weights and config, image settings, and how patches become one vector."""
        return {
            "kind": "image",
            "weights": checkpoint_folder.weights_digest(
                checkpoint_folder.weight_files(self.folder)
            ),
            "config": checkpoint_folder.config_digest(checkpoint_folder.read_config(self.folder)),
            "image": {"backend": "pil", **checkpoint_folder.image_settings(self.folder)},
            "pooling": self.pooling,
            "precision": self.precision,
        }

    def load(self, device: str) -> LoadedImage:
        """Read the weights onto a device, frozen."""
        unused = ("pooler.",) if self.pooling == "cls" else ()
        network = load_network(self.folder, self.precision, device, untrained=unused)
        pixels, crop = load_processor(self.folder)

        def features(pixels: Tensor) -> tuple[Tensor, Tensor]:
            output = network(pixel_values=pixels)
            return pool(output, self.pooling), output.last_hidden_state

        return LoadedImage(
            name=self.name,
            dim=self.dim,
            device=device,
            precision=self.precision,
            pixels=pixels,
            features=features,
            crop=crop,
        )


@dataclass(frozen=True)
class LoadedImage:
    """From an image to pixels, from pixels to features; shared by all image networks.

    With a crop, an input is bytes (H, W, 3), standardised per batch; else floats (3, H, W).
    Features are (B, D), with the patches (B, T, D') or the map (B, D', H, W) behind them where
    there are such; with a `token_dim` these are kept.
    """

    name: str
    dim: int
    device: str
    precision: Precision
    pixels: Callable[[Image], Floats | Bytes]
    features: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    crop: Crop | None = None
    token_dim: int = 0

    def keeping_tokens(self, width: int) -> LoadedImage:
        """The same network, whose patches or cells are kept too."""
        return replace(self, token_dim=width)

    @property
    def draft(self) -> int:
        """The shorter side below which a JPEG must not be decoded; 0 where it must be whole."""
        return self.crop.draft if self.crop else 0

    def prepare(self, raw: Any) -> EncoderInput:
        """Pixels of one image; safe in threads."""
        return EncoderInput(self.pixels(raw if raw.mode == "RGB" else raw.convert("RGB")))

    def encode(self, batch: Sequence[EncoderInput]) -> EncoderOutput:
        """Features (B, D) of prepared images."""
        return self.launch(batch)()

    def launch(self, batch: Sequence[EncoderInput]) -> Callable[[], EncoderOutput]:
        """Begin to encode prepared images; the result waits for their features."""
        import torch

        stacked = stack([prepared.value for prepared in batch], self.device)
        with torch.inference_mode():
            pixels = as_input(stacked, self.crop, self.precision)
            with image_errors(self.name, pixels):
                found = self.features(pixels)
            pooled, hidden = found if isinstance(found, tuple) else (found, None)
            fetch = to_host(pooled, self.name, self.dim)
            if not self.token_dim:
                return fetch
            return with_tokens(fetch, hidden, (), self.name, self.token_dim)


def as_input(stacked: Tensor, crop: Crop | None, precision: Precision) -> Tensor:
    """Pixels as a network takes them, (B, 3, H, W), channels last in memory."""
    import torch

    pixels = standardise(stacked, crop) if crop else stacked
    pixels = pixels.to(torch_dtype(precision))
    return pixels.contiguous(memory_format=torch.channels_last)


@contextmanager
def image_errors(name: str, pixels: Tensor) -> Iterator[None]:
    """A network that does not fit its preparation is an error in one line."""
    try:
        yield
    except (ValueError, TypeError, IndexError) as error:
        raise EncoderError(
            f"encoder {name} cannot take images of {tuple(pixels.shape[2:])} pixels "
            f"({checkpoint_folder.first_line(error)}); its preprocessor_config.json does not "
            "describe what its network reads"
        ) from None


def build_image(name: str, folder: Path, *, precision: Precision) -> ImageEncoder:
    """Describe the image network in a folder."""
    config = checkpoint_folder.read_config(folder)
    tensors = checkpoint_folder.tensor_names(checkpoint_folder.weight_files(folder))
    checkpoint_folder.image_settings(folder)
    untrained = config["model_type"] in TRAINED_POOLER_TYPES and not any(
        "pooler." in tensor for tensor in tensors
    )
    return ImageEncoder(name, folder, "cls" if untrained else "pooler or mean", precision)


def load_processor(folder: Path) -> tuple[Callable[[Image], Floats | Bytes], Crop | None]:
    """The checkpoint's own image preparation, on PIL, which is the same on every machine.

    Returns:
        What makes pixels of an image, and, where that is only a crop, what standardises them.
    """
    with quiet():
        import transformers

        family: Any = transformers.AutoImageProcessor
        try:
            processor = family.from_pretrained(
                folder, backend="pil", local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            raise EncoderError(
                f"{folder} does not say how to prepare images: "
                f"{checkpoint_folder.first_line(error)}"
            ) from None

    if (crop := plain_crop(processor)) is not None:
        return partial(_plain_pixels, crop), crop

    def pixels(image: Image) -> Floats:
        # given as PIL: an array whose height is 1 or 3 would be taken for channels first
        try:
            output = processor(_trimmed(image), return_tensors="np")
            values: Floats = np.asarray(output["pixel_values"][0], np.float32)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise EncoderError(
                f"{folder}/preprocessor_config.json cannot prepare an image of "
                f"{image.width}x{image.height} pixels: {checkpoint_folder.first_line(error)}"
            ) from None
        return values

    return pixels, None


def _plain_pixels(crop: Crop, image: Image) -> Bytes:
    return cropped(_trimmed(image), crop)


def pool(output: Any, pooling: ImagePooling) -> Tensor:
    """One vector per image: the network's own pooled output, else the mean over tokens or space."""
    if pooling == "cls":
        first: Tensor = output.last_hidden_state[:, 0]
        return first
    pooled = getattr(output, "pooler_output", None)
    if pooled is not None:
        flat: Tensor = pooled.flatten(1)  # (B, C, 1, 1) in ResNet
        return flat
    hidden: Tensor = output.last_hidden_state
    return hidden.mean((2, 3)) if hidden.ndim == 4 else hidden.mean(1)


def _trimmed(image: Image) -> Image:
    width, height = image.size
    longest = MAX_ASPECT * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))
