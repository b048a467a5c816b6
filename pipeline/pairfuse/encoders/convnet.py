"""Convolutional networks from one weight file: EfficientNet-Lite0 and torchvision's ResNet-50."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.data.pairs import Modality
from pairfuse.encoders import folder as folders
from pairfuse.encoders.base import Precision
from pairfuse.encoders.image import LoadedImage
from pairfuse.encoders.network import quiet, torch_dtype
from pairfuse.encoders.pixels import Crop, cropped
from pairfuse.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class ConvNet:
    """What is known of a network whose weights are one state dict."""

    build: Callable[[], Any]
    #: Pooled features (B, D) and the map (B, D, H, W) that they are the mean of.
    features: Callable[[Any, Tensor], tuple[Tensor, Tensor]]
    dim: int
    crop: Crop
    #: Whether bf16 leaves features as they are, cosine 0.999 or more; if not, fp32 takes its place.
    bears_bf16: bool = True


@dataclass(frozen=True)
class ConvEncoder:
    """A convolutional network known by its weight file."""

    name: str
    architecture: str
    file: Path
    asked_precision: Precision
    modality: Modality = "image"
    batch_size: int = 8

    @property
    def dim(self) -> int:
        """Channels after the last convolution."""
        return CONV_NETS[self.architecture].dim

    @property
    def token_dim(self) -> int:
        """Width of a cell of the last feature map."""
        return self.dim

    @property
    def has_summary(self) -> bool:
        return False

    @property
    def precision(self) -> Precision:
        """The one asked for, but fp32 in place of a bf16 that this network does not bear."""
        exact = self.asked_precision == "bf16" and not CONV_NETS[self.architecture].bears_bf16
        return "fp32" if exact else self.asked_precision

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """The weight file's digest and how an image is cut, scaled and standardised."""
        return {
            "kind": self.architecture,
            "weights": folders.file_digest(self.file),
            "image": {"backend": "pil", **_plain(CONV_NETS[self.architecture].crop)},
            "pooling": "mean",
            "precision": self.precision,
        }

    def load(self, device: str) -> LoadedImage:
        """Read the weights onto a device, frozen."""
        import torch

        net = CONV_NETS[self.architecture]
        with quiet():
            network = net.build()
        try:
            network.load_state_dict(_state_dict(self.file))
        except Exception as error:
            raise EncoderError(
                f"encoder {self.name}: {self.file} holds no {self.architecture} weights "
                f"({folders.first_line(error)}); copy it again or give another file"
            ) from None
        from pairfuse.encoders.tuned import fold_batch_norm

        network = fold_batch_norm(network.requires_grad_(False).eval())
        dtype = torch_dtype(self.precision)
        network = network.to(device, dtype, memory_format=torch.channels_last)
        return LoadedImage(
            self.name,
            self.dim,
            device,
            self.precision,
            lambda image: cropped(image, net.crop),
            lambda pixels: net.features(network, pixels),
            crop=net.crop,
        )


def _plain(crop: Crop) -> dict[str, Any]:
    values = asdict(crop).items()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values}


def _state_dict(file: Path) -> Mapping[str, Any]:
    """Tensors of one file; a pickle is read by torch's restricted reader, which runs no code."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        folders.safetensors_header(file)
        return load_file(file)
    import torch

    loaded: Mapping[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return loaded


def _efficientnet_lite0() -> Any:
    from efficientnet_lite_pytorch import EfficientNet

    return EfficientNet.from_name("efficientnet-lite0")


def _efficientnet_features(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    maps: Tensor = network.extract_features(pixels)  # (B, 1280, 7, 7)
    return maps.mean((2, 3)), maps


def _resnet50() -> Any:
    from torchvision.models import resnet50

    return resnet50(weights=None)


def _resnet_features(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    maps = pixels
    for name, part in network.named_children():
        if name not in {"avgpool", "fc"}:
            maps = part(maps)  # at last (B, 2048, 7, 7)
    return network.avgpool(maps).flatten(1), maps


CONV_NETS = {
    # Standardised as in TensorFlow's efficientnet/lite (127 and 128 of 255, bicubic, 0.875 of the
    # short side): the port's classifier is surer with these than with ImageNet's mean and std.
    "efficientnet-lite0": ConvNet(
        _efficientnet_lite0,
        _efficientnet_features,
        1280,
        Crop(256, 224, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3),
        bears_bf16=False,  # its cosine to fp32 went down to 0.988 over 282 photographs
    ),
    # torchvision's ResNet50_Weights.IMAGENET1K_V2.transforms()
    "resnet50": ConvNet(
        _resnet50,
        _resnet_features,
        2048,
        Crop(232, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ),
}
