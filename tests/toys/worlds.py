"""Worlds of known truth: drawn features whose label comes from where the world says.

The equations. A world has C classes with shares p_c = r^(-c / (C - 1)) / sum, where r (`imbalance`)
is how many times the largest class is the smallest. A pair is drawn as

    y ~ p                              its label
    k ~ text, image, added, interaction, or nothing with the rest
    a, b                               the classes that text and image show:
        text          a = y            b uniform
        image         a uniform        b = y
        added         a = y            b = y
        interaction   a uniform        b = (y - a) mod C
        nothing       a uniform        b uniform
    x_text  = text_strength  * U[:, a] + e        e standard normal, of `text_width` numbers
    x_image = image_strength * V[:, b] + e'       likewise, of `image_width`
    y redrawn from p with chance `noise`

where the columns of U and V are orthonormal and drawn once for a world. So in an interaction either
modality alone is independent of the label (as the confounders of Hateful Memes mean it to be); and
where every pair is of kind added, text and image are independent given the label, so that the
log-odds are exactly a sum of what each says, and no interaction is there to be found.

A share `duplicates` of the rows repeat the features of an earlier row, in its group and with its
label; of a share `disputed` of these the label is drawn again from p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pairfuse.arrays import Doubles, Floats, Ints
from pairfuse.features.views import Views
from pairfuse.study.crossfit import Table

TEXT, IMAGE = "words", "look"


@dataclass(frozen=True)
class World:
    """What the label of a pair comes from; the kinds are shares of the pairs."""

    classes: int = 2
    text: float = 0.0
    image: float = 0.0
    added: float = 0.0
    interaction: float = 0.0
    text_strength: float = 2.0
    image_strength: float = 2.0
    noise: float = 0.0
    imbalance: float = 1.0
    duplicates: float = 0.0
    disputed: float = 0.25
    text_width: int = 12
    image_width: int = 12
    number: int = 0  # of the directions that show a class

    def __post_init__(self) -> None:
        if sum(self.kinds) > 1 + 1e-9:
            raise ValueError(f"the kinds add up to {sum(self.kinds)}; they are shares of the pairs")

    @property
    def kinds(self) -> tuple[float, float, float, float]:
        return self.text, self.image, self.added, self.interaction

    @property
    def prior(self) -> Doubles:
        """Share of each class, shape (C,)."""
        shares = self.imbalance ** (-np.arange(self.classes) / (self.classes - 1))
        return np.asarray(shares / shares.sum())


def draw_world(world: World, rows: int, *, seed: int) -> Table:
    """Draw pairs of a world; another seed draws new pairs of the same world."""
    random = np.random.default_rng([seed, world.number, rows])
    targets = random.choice(world.classes, size=rows, p=world.prior)
    shown = _shown(world, targets, random)
    redrawn = random.random(rows) < world.noise
    targets[redrawn] = random.choice(world.classes, size=redrawn.sum(), p=world.prior)
    features = {
        view: _features(frame, classes, strength, random)
        for view, frame, classes, strength in zip(
            (TEXT, IMAGE),
            _frames(world),
            shown,
            (world.text_strength, world.image_strength),
            strict=True,
        )
    }
    groups = np.arange(rows, dtype=np.int64)
    again = 1 + np.flatnonzero(random.random(rows - 1) < world.duplicates)
    for row, source in zip(again.tolist(), random.integers(again).tolist(), strict=True):
        for values in (groups, targets, *features.values()):
            values[row] = values[source]
    disputed = again[random.random(len(again)) < world.disputed]
    targets[disputed] = random.choice(world.classes, size=len(disputed), p=world.prior)
    return _table(features, targets, groups, world.classes)


def _shown(world: World, targets: Ints, random: np.random.Generator) -> tuple[Ints, Ints]:
    """The classes that text and image show, each of shape (N,)."""
    ends = np.cumsum(world.kinds)
    kind = np.searchsorted(ends, random.random(len(targets)), side="right")
    text, image = random.integers(world.classes, size=(2, len(targets)))
    text = np.where((kind == 0) | (kind == 2), targets, text)
    image = np.where((kind == 1) | (kind == 2), targets, image)
    image = np.where(kind == 3, (targets - text) % world.classes, image)
    return text, image


def _frames(world: World) -> tuple[Doubles, Doubles]:
    """Orthonormal directions of the classes, (D, C) for text and for image."""
    random = np.random.default_rng(world.number)
    widths = world.text_width, world.image_width
    text, image = (np.linalg.qr(random.normal(size=(d, world.classes)))[0] for d in widths)
    return text, image


def _features(
    frame: Doubles, classes: Ints, strength: float, random: np.random.Generator
) -> Floats:
    values = strength * frame.T[classes] + random.normal(size=(len(classes), len(frame)))
    return np.asarray(values, dtype=np.float32)


def _table(features: dict[str, Floats], targets: Ints, groups: Ints, classes: int) -> Table:
    views = Views(
        features=features,
        present={view: np.ones(len(targets), dtype=bool) for view in features},
        modality={TEXT: "text", IMAGE: "image"},
    )
    guids = tuple(str(row) for row in range(len(targets)))
    labels = tuple(f"label-{number}" for number in range(classes))
    return Table(
        views=views, targets=targets.astype(np.int64), groups=groups, guids=guids, labels=labels
    )
