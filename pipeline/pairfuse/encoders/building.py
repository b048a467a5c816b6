"""Building: what a row of the ENCODERS table says, and how encoders come from it.

Nothing heavy is imported, and no weights are read into memory here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pairfuse.data.pairs import Modality
from pairfuse.encoders import checkpoint_folder, weights
from pairfuse.encoders.base import Encoder, Precision
from pairfuse.encoders.convnet import ConvEncoder, architecture_of
from pairfuse.encoders.dual import DUAL_FAMILIES, build_dual
from pairfuse.encoders.image import build_image
from pairfuse.encoders.joint import build_joint
from pairfuse.encoders.network import resolve_device, resolve_precision
from pairfuse.encoders.text import build_text
from pairfuse.encoders.truncation import Truncation
from pairfuse.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What holds for all encoders of one call."""

    pooling: str
    max_length: int
    asked_precision: str
    device: str
    truncation: Truncation = "head"

    @cached_property
    def precision(self) -> Precision:
        """Resolved when first asked for: to look for a GPU imports torch, which n-grams spare."""
        return resolve_precision(self.asked_precision, resolve_device(self.device))


@dataclass(frozen=True, kw_only=True)
class Request:
    """One encoder that a user asks for.

    Attributes:
        name: Of its view, or the beginning of the names of several.
        key: What the user writes before `=` to give it another source: its name in the table, or
            a modality.
        source: A folder, a file, a hub id, an address; empty where there are no weights.
        pooling: What `auto` means for it; auto again leaves that to the checkpoint.
    """

    name: str
    key: str
    source: str
    pooling: str = "auto"


Build = Callable[[Request, Options], list[Encoder]]


@dataclass(frozen=True, kw_only=True)
class EncoderSpec:
    """One row of the table: how to build, where the weights are, what they are.

    Attributes:
        views: Modality and width of each of its views, by the end of the view's name if there are
            several.
        parameters: Of the network that is loaded for all its views; 0 without one.
        licence: Of the weights, as their publisher states it; empty where none is stated.
        pooling: What `auto` means for these weights; auto again leaves that to the checkpoint.
        install: What to `pip install` for it; empty where it comes with the installation, or from
            a server.
    """

    build: Build
    source: str
    about: str
    views: Mapping[str, tuple[Modality, int]]
    parameters: int
    licence: str = ""
    pooling: str = "auto"
    install: str = ""


def text_spec(
    source: str,
    about: str,
    *,
    width: int,
    parameters: int,
    licence: str = "",
    pooling: str = "auto",
    install: str = "",
) -> EncoderSpec:
    """A text network from a checkpoint folder."""
    return EncoderSpec(
        build=build_text_request,
        source=source,
        about=about,
        views={"": ("text", width)},
        parameters=parameters,
        licence=licence,
        pooling=pooling,
        install=install,
    )


def image_spec(
    source: str,
    about: str,
    *,
    width: int,
    parameters: int,
    licence: str = "",
    install: str = "",
) -> EncoderSpec:
    """An image network: one of torchvision's, the bundled one, or from a checkpoint folder."""
    is_one_file = source.startswith(("https:", "package:"))
    return EncoderSpec(
        build=_build_convnet if is_one_file else build_image_request,
        source=source,
        about=about,
        views={"": ("image", width)},
        parameters=parameters,
        licence=licence,
        install=install,
    )


def joint_spec(
    source: str, about: str, *, width: int, parameters: int, licence: str = ""
) -> EncoderSpec:
    """A network that reads text and image in one pass."""
    return EncoderSpec(
        build=build_joint_request,
        source=source,
        about=about,
        views={"": ("joint", width)},
        parameters=parameters,
        licence=licence,
    )


def weightless_spec(
    make: Callable[[str], Encoder], about: str, *, width: int, licence: str = ""
) -> EncoderSpec:
    """What reads a text without weights, made from the name of its view."""

    def build(request: Request, _: Options) -> list[Encoder]:
        if request.source:
            raise ConfigError(
                f"encoder {request.name} has no weights to read from {request.source}; "
                f"give just {request.name}"
            )
        return [make(request.name)]

    return EncoderSpec(
        build=build,
        source="",
        about=about,
        views={"": ("text", width)},
        parameters=0,
        licence=licence,
    )


def several_specs(
    name: str,
    source: str,
    about: str,
    *,
    views: Mapping[str, tuple[Modality, int]],
    parameters: int,
    licence: str = "",
) -> dict[str, EncoderSpec]:
    """A checkpoint of several views: all of them but the agreement under its name, and each alone.

    The parameters are those of the whole checkpoint.
    """

    def spec(about: str, views: Mapping[str, tuple[Modality, int]]) -> EncoderSpec:
        return EncoderSpec(
            build=_building_views(views),
            source=source,
            about=about,
            views=views,
            parameters=parameters,
            licence=licence,
        )

    whole = {part: view for part, view in views.items() if part != "agreement"}
    single = {
        f"{name}-{part}": spec(f"{about}: {_PART_ABOUT[part]}", {"": view})
        for part, view in views.items()
    }
    return {name: spec(about, whole), **single}


def dual_views(width: int) -> dict[str, tuple[Modality, int]]:
    """The views of a dual encoder whose text and image share a space of this width."""
    return {"text": ("text", width), "image": ("image", width), "agreement": ("joint", 1 + width)}


_PART_ABOUT = {
    "text": "its text encoder alone",
    "image": "its image encoder alone",
    "joint": "text and image in one pass",
    "agreement": "cosine and product of text and image vector",
}


def build_text_request(request: Request, options: Options) -> list[Encoder]:
    """A text network, or the text side of a dual encoder."""
    folder = weights.find_folder(request.name, request.source, key=request.key)
    if checkpoint_folder.model_type(folder) in DUAL_FAMILIES:
        return _build_views([(f"{request.name}-text", "text")], folder, options)
    return [
        build_text(
            request.name,
            folder,
            pooling=request.pooling if options.pooling == "auto" else options.pooling,
            max_length=options.max_length,
            precision=options.precision,
            truncation=options.truncation,
        )
    ]


def build_image_request(request: Request, options: Options) -> list[Encoder]:
    """An image network, from a folder or one weight file, or the image side of a dual encoder."""
    if (file := _state_dict_file(request.source)) is not None:
        return [ConvEncoder(request.name, architecture_of(file), file, options.precision)]
    folder = weights.find_folder(request.name, request.source, key=request.key)
    if checkpoint_folder.model_type(folder) in DUAL_FAMILIES:
        return _build_views([(f"{request.name}-image", "image")], folder, options)
    return [build_image(request.name, folder, precision=options.precision)]


def build_joint_request(request: Request, options: Options) -> list[Encoder]:
    """A network over pairs, or how far the two sides of a dual encoder agree."""
    folder = weights.find_folder(request.name, request.source, key=request.key)
    kind, name = checkpoint_folder.model_type(folder), request.name
    if kind in DUAL_FAMILIES:
        name = f"{name}-joint" if kind == "flava" else f"{name}-agreement"
    return _build_views([(name, "joint")], folder, options)


def _build_convnet(request: Request, options: Options) -> list[Encoder]:
    """A network of torchvision's, or the bundled one; or what a checkpoint folder holds instead."""
    name, source = request.name, request.source
    architecture = "efficientnet-b0" if name == "efficientnet" else name
    if source.startswith("https:"):
        file: Path | None = weights.find_download(name, source)
    elif source.startswith("package:"):
        file = weights.package_path(name, source)
    else:
        file = _state_dict_file(source)
    if file is None:
        return build_image_request(request, options)
    return [ConvEncoder(name, architecture, file, options.precision)]


def _building_views(parts: Mapping[str, tuple[Modality, int]]) -> Build:
    """Views of one checkpoint; one alone has the whole name, several have their ends."""

    def build(request: Request, options: Options) -> list[Encoder]:
        ends = {part: "" if len(parts) == 1 else f"-{part}" for part in parts}
        views = [(f"{request.name}{ends[part]}", modality) for part, (modality, _) in parts.items()]
        folder = weights.find_folder(request.name, request.source, key=request.key)
        return _build_views(views, folder, options)

    return build


def _build_views(
    views: Sequence[tuple[str, Modality]], folder: Path, options: Options
) -> list[Encoder]:
    """Views, (name, modality), of one checkpoint that sees text and image."""
    checkpoint_folder.model_type(folder)
    single = [(name, modality) for name, modality in views if modality != "joint"]
    encoders: list[Encoder] = []
    if single:
        encoders += build_dual(
            single,
            folder,
            max_length=options.max_length,
            precision=options.precision,
            truncation=options.truncation,
        )
    encoders += [
        build_joint(
            name,
            folder,
            max_length=options.max_length,
            precision=options.precision,
            truncation=options.truncation,
        )
        for name, modality in views
        if modality == "joint"
    ]
    return encoders


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
