"""Pixels: the part of a picture that a network sees, scaled, as bytes; standardised per batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from pairfuse.arrays import Bytes

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Interpolation = Literal["nearest", "lanczos", "bilinear", "bicubic"]

#: Pillow's numbers, as image processors write them.
INTERPOLATIONS: dict[int, Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
#: Image processors of transformers that do no more than a crop says.
PLAIN_PROCESSORS = (
    "BitImageProcessorPil",
    "BlipImageProcessorPil",
    "ChineseCLIPImageProcessorPil",
    "CLIPImageProcessorPil",
    "SiglipImageProcessorPil",
    "ViTImageProcessorPil",
)


@dataclass(frozen=True)
class Crop:
    """Scale the shorter side to `resize`, keep the middle `size` x `size`, standardise channels.

    With `resize` 0 the whole picture is scaled to `size` x `size`, whatever its shape.
    """

    resize: int
    size: int
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    #: Where the middle lies half a pixel off: torchvision rounds, transformers goes to the left.
    rounds: bool = True

    @property
    def draft(self) -> int:
        """The shorter side, in pixels, that a JPEG must still have when it is decoded smaller.

        Four times the target's side: features of EfficientNet-Lite0 stay within 0.999 in cosine
        of those of the full picture; with three times they did not always, with the side itself
        they fell to 0.94.
        """
        return 4 * max(self.resize, self.size)


def cropped(image: Image, crop: Crop) -> Bytes:
    """The kept part of an RGB image, (size, size, 3); only that part is scaled.

    Gives what torchvision's Resize and CenterCrop give, up to rounding at one grey level.
    """
    from PIL.Image import Resampling

    box = _kept(image.width, image.height, crop) if crop.resize else None
    resample = Resampling[crop.interpolation.upper()]
    return np.asarray(image.resize((crop.size, crop.size), resample, box=box))


def standardise(pixels: Tensor, crop: Crop) -> Tensor:
    """From bytes (B, H, W, 3) to float32 (B, 3, H, W), which are channels last in memory."""
    import torch

    offset, scale = _constants(crop, str(pixels.device))
    return torch.addcmul(offset, pixels.float(), scale).permute(0, 3, 1, 2)


@cache
def _constants(crop: Crop, device: str) -> tuple[Tensor, Tensor]:
    """Made once: to bring a value to a GPU is to wait for all that it does."""
    import torch

    mean, std = torch.tensor(crop.mean), torch.tensor(crop.std)
    return (-mean / std).to(device), (1 / (255 * std)).to(device)


def plain_crop(processor: Any) -> Crop | None:
    """What an image processor of transformers does, if that is a crop and nothing else."""
    wanted = ("do_resize", "do_rescale", "do_normalize")
    if type(processor).__name__ not in PLAIN_PROCESSORS or not all(
        getattr(processor, name, False) is True for name in wanted
    ):
        return None
    interpolation = INTERPOLATIONS.get(cast(int, processor.resample))
    mean, std = processor.image_mean, processor.image_std
    sides = _sides(processor)
    if interpolation is None or sides is None or abs(processor.rescale_factor * 255 - 1) > 1e-6:
        return None
    if not (isinstance(mean, list | tuple) and isinstance(std, list | tuple)):
        return None
    if len(mean) != 3 or len(std) != 3 or not all(std):
        return None
    return Crop(*sides, interpolation, _three(mean), _three(std), rounds=False)


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def _sides(processor: Any) -> tuple[int, int] | None:
    """`resize` and `size` of a crop; None where a processor's sides are not such a pair."""
    size, kept = dict(processor.size or {}), dict(getattr(processor, "crop_size", None) or {})
    size = {key: value for key, value in size.items() if value}
    kept = {key: value for key, value in kept.items() if value}
    if not getattr(processor, "do_center_crop", None):
        square = set(size) == {"height", "width"} and size["height"] == size["width"]
        return (0, int(size["height"])) if square else None
    if set(size) != {"shortest_edge"} or set(kept) != {"height", "width"}:
        return None
    if kept["height"] != kept["width"] or kept["height"] > size["shortest_edge"]:
        return None
    return int(size["shortest_edge"]), int(kept["height"])


def _kept(width: int, height: int, crop: Crop) -> tuple[float, float, float, float]:
    """The box of the original that is seen."""
    scale = crop.resize / min(width, height)
    new_width = max(crop.resize, int(width * scale))
    new_height = max(crop.resize, int(height * scale))
    spare = (new_width - crop.size, new_height - crop.size)
    left, top = (round(side / 2) if crop.rounds else side // 2 for side in spare)
    across, down = width / new_width, height / new_height
    return (
        left * across,
        top * down,
        min((left + crop.size) * across, width),
        min((top + crop.size) * down, height),
    )
