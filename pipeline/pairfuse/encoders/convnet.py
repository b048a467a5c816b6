"""Networks from one weight file: EfficientNet-Lite0 and any of torchvision's, named by the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder
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
    #: Pooled features (B, D), and the map (B, D, H, W) that they are pooled from, if it is known.
    features: Callable[[Any, Tensor], Tensor | tuple[Tensor, Tensor]]
    dim: int
    crop: Crop
    #: Whether bf16 leaves features as they are, cosine 0.999 or more; if not, fp32 takes its place.
    bears_bf16: bool = True
    #: The classifier's name in the weight file; its weights are not read.
    head: str = ""
    #: Whether its layers are written in the order in which they run, so that batch-norms can fold.
    in_order: bool = True


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
    def net(self) -> ConvNet:
        """What is known of its network."""
        return conv_net(self.architecture, self.file.name)

    @property
    def dim(self) -> int:
        """Channels after the last convolution."""
        return self.net.dim

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
        exact = self.asked_precision == "bf16" and not self.net.bears_bf16
        return "fp32" if exact else self.asked_precision

    @cached_property
    def made_from(self) -> dict[str, Any]:
        """The weight file's digest and how an image is cut, scaled and standardised."""
        return {
            "kind": self.architecture,
            "weights": checkpoint_folder.file_digest(self.file),
            "image": {"backend": "pil", **_plain(self.net.crop)},
            "pooling": "mean",
            "precision": self.precision,
        }

    def load(self, device: str) -> LoadedImage:
        """Read the weights onto a device, frozen."""
        import torch

        net = self.net
        with quiet():
            network = net.build()
        try:
            network.load_state_dict(_state_dict(self.file, without=net.head))
        except Exception as error:
            raise EncoderError(
                f"encoder {self.name}: {self.file} holds no {self.architecture} weights "
                f"({checkpoint_folder.first_line(error)}); copy it again or give another file"
            ) from None
        from pairfuse.encoders.fast_inference import fold_batch_norm, fold_padding

        network = fold_padding(network.requires_grad_(False).eval())
        if net.in_order:
            network = fold_batch_norm(network)
        dtype = torch_dtype(self.precision)
        network = network.to(device, dtype, memory_format=torch.channels_last)
        return LoadedImage(
            name=self.name,
            dim=self.dim,
            device=device,
            precision=self.precision,
            pixels=lambda image: cropped(image, net.crop),
            features=lambda pixels: net.features(network, pixels),
            crop=net.crop,
        )


def _plain(crop: Crop) -> dict[str, Any]:
    values = asdict(crop).items()
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values}


def _state_dict(file: Path, *, without: str = "") -> Mapping[str, Any]:
    """Tensors of one file; a pickle is read by torch's restricted reader, which runs no code."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        checkpoint_folder.safetensors_header(file)
        loaded: Mapping[str, Any] = load_file(file)
    else:
        import torch

        loaded = torch.load(file, map_location="cpu", weights_only=True)
    return {
        name: values
        for name, values in loaded.items()
        if not (without and name.startswith(f"{without}."))
    }


def _efficientnet_lite(name: str, resize: int, size: int) -> ConvNet:
    """One of the port of TensorFlow's efficientnet/lite.

    Standardised as there (127 and 128 of 255, bicubic, 0.875 of the short side): the port's
    classifier is surer with these than with ImageNet's mean and std.
    """

    def build() -> Any:
        import torch
        from efficientnet_lite_pytorch import EfficientNet

        network = EfficientNet.from_name(name)
        for layer in network.modules():
            if isinstance(layer, torch.nn.ReLU6):
                layer.inplace = True  # each is the only one to read a convolution's map
        return network

    crop = Crop(resize, size, "bicubic", (127 / 255,) * 3, (128 / 255,) * 3)
    # in bf16 the cosine of lite0 to fp32 went down to 0.988 over 282 photographs
    return ConvNet(build, _efficientnet_features, 1280, crop, bears_bf16=False)


def _efficientnet_features(network: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    maps: Tensor = network.extract_features(pixels)  # (B, 1280, 7, 7)
    return maps.mean((2, 3)), maps


def _torchvision(
    name: str, dim: int, head: str, crop: Crop, *, bears_bf16: bool = True, in_order: bool = True
) -> ConvNet:
    """One of torchvision's networks, read where its classifier would."""

    def build() -> Any:
        import torch
        from torchvision.models import get_model

        network = get_model(name, weights=None)
        network.set_submodule(head, torch.nn.Identity())
        return network

    return ConvNet(build, _own_output, dim, crop, bears_bf16, head, in_order)


def _own_output(network: Any, pixels: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """What the network gives, and the map that its last pooling layer is given, if it has one."""
    pooling = getattr(network, "avgpool", None)
    if pooling is None:
        plain: Tensor = network(pixels)
        return plain
    pooled_maps: list[Tensor] = []
    hook = pooling.register_forward_pre_hook(lambda _, inputs: pooled_maps.append(inputs[0]))
    try:
        features: Tensor = network(pixels)
    finally:
        hook.remove()
    return features, pooled_maps[-1]


_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: The transforms of torchvision's weights IMAGENET1K_V2 and IMAGENET1K_V1.
_V2, _V1 = Crop(232, 224, "bilinear", _MEAN, _STD), Crop(256, 224, "bilinear", _MEAN, _STD)
CONV_NETS = {
    "efficientnet-lite0": _efficientnet_lite("efficientnet-lite0", 256, 224),
    "efficientnet-lite2": _efficientnet_lite("efficientnet-lite2", 297, 260),
    "resnet18": _torchvision("resnet18", 512, "fc", _V1),
    "resnet50": _torchvision("resnet50", 2048, "fc", _V2),
    "resnet152": _torchvision("resnet152", 2048, "fc", _V2),
    "efficientnet-b0": _torchvision(
        "efficientnet_b0",
        1280,
        "classifier.1",
        Crop(256, 224, "bicubic", _MEAN, _STD),
        bears_bf16=False,  # as its sister above
    ),
}


@cache
def conv_net(architecture: str, file_name: str = "") -> ConvNet:
    """A network of the table above, or what torchvision knows of one of its own.

    Images are prepared as for the weights whose file is so named, else as for torchvision's best.
    """
    if architecture in CONV_NETS:
        return CONV_NETS[architecture]
    import torch
    from torchvision.models import get_model, get_model_weights

    with quiet(), torch.device("meta"):
        network = get_model(architecture, weights=None)
    layers = [(n, m) for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
    known = get_model_weights(architecture)
    named = [weights for weights in known if weights.url.endswith(f"/{file_name}")]
    if not layers or layers[-1][1].out_features != 1000:
        raise EncoderError(
            f"torchvision's {architecture} does not end in a linear classifier of ImageNet, so its "
            "features cannot be read; give another network"
        )
    head, last = layers[-1]
    preset = (named or [known.DEFAULT])[0].transforms()
    crop = Crop(
        resize=preset.resize_size[0],
        size=preset.crop_size[0],
        interpolation=preset.interpolation.value,
        mean=(preset.mean[0], preset.mean[1], preset.mean[2]),
        std=(preset.std[0], preset.std[1], preset.std[2]),
    )
    return _torchvision(
        architecture, last.in_features, head, crop, bears_bf16=False, in_order=False
    )


def architecture_of(file: Path) -> str:
    """The network that a weight file is of, by its name, as in torchvision's `resnet18-f37072fd`.

    Raises:
        EncoderError: The name begins with that of no network.
    """
    stem = file.stem.lower().replace("_", "-")
    if stem.partition("-")[0] in CONV_NETS:
        return stem.partition("-")[0]
    from torchvision import models

    known = {name.replace("_", "-"): name for name in models.list_models(module=models)}
    known |= {name: name for name in CONV_NETS}
    found = [name for name in known if f"{stem}-".startswith(f"{name}-")]
    if not found:
        raise EncoderError(
            f"{file} does not say which network it holds; name it as torchvision does "
            "(resnet18-f37072fd.pth), or write resnet50=<file>"
        )
    return str(known[max(found, key=len)])
