"""Confusion: which label is taken for which, as shares of the true one; pixels if many."""

from __future__ import annotations

from collections.abc import Sequence

from pairfuse.report.canvas import NARROW, WIDE, Canvas, Drawing, canvas
from pairfuse.report.markup import squeezed
from pairfuse.report.svg import ACCENT

#: Matrices of more classes are drawn as pixels without numbers.
MOST_CELLS = 10
COUNTED = 6  # matrices of more classes show no counts beside the shares
#: Of such pixels: an image takes no colour from the page, so one that light and dark both bear.
PIXEL = "#4f8fc9"
MOST_TICKS = 16  # labels along such a matrix


def plot_confusion(
    key: str, title: str, labels: Sequence[str], matrix: Sequence[Sequence[float]]
) -> Drawing:
    """Truth down, prediction across; shade and large number are the share of the row."""
    totals = [sum(row) or 1.0 for row in matrix]
    shares = [[cell / total for cell in row] for row, total in zip(matrix, totals, strict=True)]
    rows = [
        (truth, predicted, matrix[i][j], shares[i][j])
        for i, truth in enumerate(labels)
        for j, predicted in enumerate(labels)
    ]
    few = len(labels) <= MOST_CELLS
    side = 62 if len(labels) <= 4 else 46 if len(labels) <= COUNTED else 33
    width = max(NARROW, 114 + side * len(labels)) if few else WIDE
    tall = 90 + min(side, 46) * len(labels) if few else WIDE
    with canvas(key, width=width, height=tall) as sheet:
        if few:
            _cells(sheet, shares, matrix)
        else:
            _pixels(sheet, shares)
        axes = sheet.axes
        names = [squeezed(label, 12) for label in labels]
        every = range(0, len(labels), -(-len(labels) // MOST_TICKS))
        axes.set_yticks(list(every), [names[at] for at in every], fontsize=10)
        axes.set_xticks(
            list(every),
            [names[at] for at in every],
            fontsize=10,
            rotation=90 if len(labels) > 3 or max(map(len, names)) > 9 else 0,
        )
        axes.tick_params(length=0)
        axes.set(xlabel="predicted", ylabel="true")
        for line in axes.spines.values():
            line.set_visible(False)
    return sheet.drawing(title, ("true", "predicted", "pairs", "share of true"), rows)


def _cells(sheet: Canvas, shares: list[list[float]], counts: Sequence[Sequence[float]]) -> None:
    from matplotlib.patches import Rectangle

    axes, size = sheet.axes, len(shares)
    for row in range(size):
        for column in range(size):
            share = shares[row][column]
            corner = (column - 0.48, row - 0.48)
            axes.add_patch(
                Rectangle(
                    corner, 0.96, 0.96, facecolor=ACCENT, alpha=0.06 + 0.44 * share, linewidth=0
                )
            )
            said = f"{share:.2f}"
            if size > COUNTED:
                axes.text(column, row, said, ha="center", va="center", fontsize=10)
                continue
            axes.text(column, row, said, ha="center", va="bottom", fontsize=11.5)
            count = f"{counts[row][column]:.0f}"
            axes.text(column, row + 0.08, count, ha="center", va="top", fontsize=9)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5))


def _pixels(sheet: Canvas, shares: list[list[float]]) -> None:
    import numpy as np
    from matplotlib.colors import to_rgb

    image = np.empty((len(shares), len(shares), 4))
    image[..., :3] = to_rgb(PIXEL)
    image[..., 3] = 0.06 + 0.94 * np.asarray(shares)
    sheet.axes.imshow(image, interpolation="none", aspect="auto")
