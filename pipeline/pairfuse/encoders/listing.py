"""What is known of the encoders that have a name, and whether their weights are at hand."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pairfuse.console import columns
from pairfuse.encoders import ENCODERS, EncoderSpec
from pairfuse.encoders.weights import is_here

BUNDLED, CACHED, DOWNLOAD, NO_WEIGHTS = "bundled", "cached", "download", "no weights"
INSTALLED, TO_INSTALL = "installed", "pip install"
_HEAD = ("name", "modality", "width", "parameters", "licence", "weights")


@dataclass(frozen=True)
class Listed:
    """One named encoder.

    Attributes:
        modality: Of each of its views.
        width: Of each of its views.
        parameters: Of the whole network.
        licence: Of the weights; none where their publisher states none.
        weights: `bundled` with the installation, `cached` on this machine, to `download`, or
            `no weights`; of a package of its own `installed`, or to `pip install`.
        source: Where they come from: a package, a hub id or an address.
    """

    name: str
    modality: tuple[str, ...]
    width: tuple[int, ...]
    parameters: int
    licence: str | None
    weights: str
    source: str
    about: str

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def list_encoders() -> list[Listed]:
    """All rows of the table, in its order; nothing is loaded and no server is asked."""
    return [
        Listed(
            name=name,
            modality=tuple(modality for modality, _ in spec.views.values()),
            width=tuple(width for _, width in spec.views.values()),
            parameters=spec.parameters,
            licence=spec.licence or None,
            weights=_weights(spec),
            source=spec.source,
            about=spec.about,
        )
        for name, spec in ENCODERS.items()
    ]


def table_lines(listed: list[Listed]) -> list[str]:
    """The same in words, columns aligned; below each encoder what it is."""
    head, *rows = columns([_HEAD, *(_cells(each) for each in listed)])
    about = (f"  {each.about}" for each in listed)
    return [head, *(line for pair in zip(rows, about, strict=True) for line in pair)]


def _cells(each: Listed) -> tuple[str, ...]:
    return (
        each.name,
        ", ".join(each.modality),
        ", ".join(map(str, each.width)),
        f"{each.parameters / 1e6:.1f} M" if each.parameters else "-",
        each.licence or "-",
        each.weights,
    )


def _weights(spec: EncoderSpec) -> str:
    if not spec.source:
        return NO_WEIGHTS
    if spec.install:
        return INSTALLED if is_here(spec.source) else TO_INSTALL
    if not is_here(spec.source):
        return DOWNLOAD
    return BUNDLED if spec.source.startswith("package:") else CACHED
