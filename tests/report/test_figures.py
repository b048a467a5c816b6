from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from pairfuse.report.canvas import Drawing, save_png
from pairfuse.report.confusion import plot_confusion
from pairfuse.report.curves import plot_history, training, tuning
from pairfuse.report.figures import (
    plot_bars,
    plot_costs,
    plot_intervals,
    plot_lines,
    spread,
)
from toys.reports import made_up, near


def texts(drawing: Drawing) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.fromstring(drawing.svg).iter("text")]


def test_intervals_show_and_keep_their_numbers() -> None:
    drawing = plot_intervals("x", "X", [("fused", near(0.7)), ("text", 0.6)], measure="F1")
    assert drawing.rows[0] == ("fused", 0.7, pytest.approx(0.68), pytest.approx(0.72))
    assert drawing.rows[1] == ("text", 0.6, None, None)
    assert {"fused", "text", "0.700", "0.600"} <= set(texts(drawing))


def test_differences_have_their_sign() -> None:
    named = [("up", near(0.1)), ("down", near(-0.1))]
    drawing = plot_intervals("x", "X", named, measure="F1", zero=True)
    assert {"+0.100", "\u22120.100"} <= set(texts(drawing))


def test_only_differences_beyond_zero_are_coloured() -> None:
    def drawn(value: float) -> str:
        named = [("one", near(value, 0.05))]
        return plot_intervals("x", "X", named, measure="F1", zero=True).svg

    assert "var(--c0)" in drawn(0.1)
    assert "var(--c0)" not in drawn(0.01)


def test_an_estimate_that_does_not_exist_leaves_its_row_empty() -> None:
    drawing = plot_intervals("x", "X", [("one", near(0.5)), ("none", None)], measure="F1")
    assert drawing.rows[1] == ("none", None, None, None)
    assert "none" in texts(drawing)


def test_shared_limits_hold_every_estimate_and_zero() -> None:
    low, high = spread([near(0.1), near(-0.2)])
    assert low < -0.22
    assert high > 0.12
    assert spread([])[0] < 0 < spread([])[1]


def test_bars_of_several_series_are_named_in_a_legend() -> None:
    series = {"fused": [near(0.5), near(0.6)], "text": [near(0.4), near(0.5)]}
    drawing = plot_bars("x", "X", ["yes", "no"], series, measure="F1")
    assert {"fused", "text", "yes", "no"} <= set(texts(drawing))
    assert [row[:3] for row in drawing.rows] == [
        *(("yes", "fused", 0.5), ("no", "fused", 0.6)),
        *(("yes", "text", 0.4), ("no", "text", 0.5)),
    ]


def test_a_series_whose_name_begins_with_an_underscore_is_named_too() -> None:
    drawing = plot_bars("x", "X", ["yes"], {"_one": [0.1], "two": [0.2]}, measure="F1")
    assert [text for text in texts(drawing) if text.strip() == "_one"]


def test_lines_keep_their_points_and_the_marked_one() -> None:
    lines = {"curve": [(0.0, 0.6), (1.0, 0.5)]}
    points = [("chosen", 0.4, 0.58)]
    drawing = plot_lines("x", "X", lines, across="saved", upward="F1", points=points)
    assert drawing.rows == (("curve", 0.0, 0.6), ("curve", 1.0, 0.5), ("chosen", 0.4, 0.58))


def test_a_matrix_shows_shares_of_its_rows() -> None:
    drawing = plot_confusion("x", "X", ["no", "yes"], [[3, 1], [0, 0]])
    assert {"0.75", "0.25", "0.00"} <= set(texts(drawing))
    assert drawing.rows[0] == ("no", "no", 3, 0.75)
    assert drawing.rows[3] == ("yes", "yes", 0, 0.0)


@pytest.mark.parametrize("size", [2, 5, 8, 12, 60])
def test_matrices_of_any_size_are_drawn(size: int) -> None:
    matrix = [[1.0] * size] * size
    drawing = plot_confusion("x", "X", [f"label {n}" for n in range(size)], matrix)
    assert len(drawing.rows) == size * size
    assert len(texts(drawing)) <= 2 + 2 * 16 + 2 * 10 * 10


def test_arms_that_another_beats_on_score_and_cost_are_said_to_be_beaten() -> None:
    named = [("cheap", 1.0, 0.5), ("dear", 9.0, 0.8), ("bad", 9.5, 0.6), ("worse", 2.0, 0.4)]
    drawing = plot_costs("x", "X", named)
    assert [row[3] for row in drawing.rows] == [True, True, False, False]


def test_one_arm_alone_has_its_cost_drawn() -> None:
    assert "only" in texts(plot_costs("x", "X", [("only", 3.0, 0.5)]))


@pytest.mark.parametrize("names", [["one"], ["a", "b", "c"], ["$x$", "<b>", "c" * 90]])
def test_the_costs_of_any_models_are_saved(names: list[str], tmp_path: Path) -> None:
    named = [(name, 10.0**at, 0.5 + 0.1 * at) for at, name in enumerate(names)]
    save_png(plot_costs("x", "X", named, width=800, letters=60), tmp_path / "costs.png")
    with Image.open(tmp_path / "costs.png") as drawn:
        assert drawn.width > 400
        assert len(set(drawn.convert("L").tobytes())) > 2


def test_the_history_of_a_training_is_one_figure_with_all_measures() -> None:
    drawing = plot_history(made_up(40).history)
    assert {"Loss", "Accuracy", "Macro-F1", "training", "validation"} <= set(texts(drawing))
    assert texts(drawing).count("training") == 1


def test_curves_of_models_that_stop_at_different_epochs_are_drawn() -> None:
    section = training(made_up(40))
    assert section is not None
    assert section.body.count("<figure") == 3


def test_parameters_that_never_varied_have_no_plot_of_their_own() -> None:
    trials = [
        {"number": n, "value": 0.5 + n / 10, "state": "complete", "params": {"lr": 0.1, "width": n}}
        for n in range(3)
    ]
    section = tuning(replace(made_up(40), trials=trials, importances={}))
    assert section is not None
    assert "<figcaption>width<" in section.body
    assert "<figcaption>lr<" not in section.body
