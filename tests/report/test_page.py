from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from pairfuse.report import classes, costs, curves, findings
from pairfuse.report.costs import _when
from pairfuse.report.gallery import gallery
from pairfuse.report.inputs import ReportInput
from pairfuse.report.layout import Section
from pairfuse.report.page import data_check, provenance, report_page, write_report
from pairfuse.stats.bootstrap import Estimate
from pairfuse.study.cost import ArmCost
from pairfuse.study.verdict import OUTCOMES, Outcome, Verdict
from toys.reports import HOSTILE, made_up, without

Build = Callable[[ReportInput], Section | None]
SECTIONS = (
    *("arms", "differences", "emap", "where", "confusion", "classes", "calibration", "cost"),
    *("cascade", "training", "tuning", "map", "gallery", "data", "speed", "provenance"),
)
BENCH = {"extraction": [{"encoder": "a", "ours_per_second": 9.0, "reference_per_second": 3.0}]}


class Elements(HTMLParser):
    """Start tags of a page with their attributes, and its CSV files by the figure they are of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figure = ""
        self.files: dict[str, list[list[str]]] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "figure":
            self.figure = found["id"] or ""
        if tag == "a" and "download" in found:
            data = unquote((found["href"] or "").split(",", 1)[1])
            self.files[self.figure] = list(csv.reader(io.StringIO(data)))

    def ids(self, tag: str) -> list[str]:
        return [found["id"] or "" for name, found in self.tags if name == tag and "id" in found]


def whole() -> ReportInput:
    return replace(made_up(), bench=BENCH)


def test_the_scores_without_a_modality_are_shown_where_there_are_some() -> None:
    given = made_up(40)
    with_them, without_them = (
        findings.arms(given),
        findings.arms(without(given, "missing_modality")),
    )
    assert with_them is not None
    assert without_them is not None
    assert "0.552" in with_them.body
    assert "missing at test time" not in without_them.body


@pytest.fixture(scope="module")
def page() -> str:
    return report_page(whole())


def test_the_verdict_comes_first_then_the_sections_in_their_order(page: str) -> None:
    assert Elements(page).ids("section") == list(SECTIONS)
    assert page.index("<h1>The image helps.</h1>") < page.index("<section")


@pytest.mark.parametrize("outcome", list(OUTCOMES))
def test_every_outcome_has_its_headline(outcome: Outcome) -> None:
    verdict = Verdict(
        outcome, ("So it is.", "And so.", "On."), use="fused", best="fused", against="text-only"
    )
    given = made_up(40)
    said = findings.verdict(replace(given, evidence=replace(given.evidence, verdict=verdict)))
    assert f"<h1>{verdict.headline}</h1>" in said
    assert said.count(verdict.headline) == 1
    assert "<p>So it is.</p>" in said
    assert ">And so. On.</p>" in said


def test_the_contents_lead_to_every_section(page: str) -> None:
    links = [a["href"] for tag, a in Elements(page).tags if tag == "a" and "download" not in a]
    assert links == [f"#{key}" for key in SECTIONS]


def test_no_id_is_there_twice(page: str) -> None:
    ids = [found["id"] for _, found in Elements(page).tags if found.get("id")]
    assert len(ids) == len(set(ids))


def test_every_figure_has_its_numbers(page: str) -> None:
    found = Elements(page)
    assert len(found.ids("figure")) > 20
    assert list(found.files) == found.ids("figure")
    assert all(len(rows) > 1 for rows in found.files.values())


def test_the_numbers_of_a_figure_are_those_of_the_evidence(page: str) -> None:
    rows = Elements(page).files["arms-macro-f1"]
    arms = whole().evidence.arms
    assert [row[0] for row in rows[1:]] == [arm.name for arm in arms]
    expected = [arm.scores.macro_f1.value for arm in arms]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx(expected, rel=1e-5)


def test_the_numbers_of_a_matrix_are_its_cells(page: str) -> None:
    rows = Elements(page).files["confusion-0"]
    matrix = whole().evidence.arms[0].scores.confusion
    assert [float(row[2]) for row in rows[1:]] == [cell for line in matrix for cell in line]


def test_the_page_runs_and_fetches_nothing(page: str) -> None:
    found = Elements(page)
    policy = [a["content"] for tag, a in found.tags if a.get("http-equiv")]
    assert policy
    assert policy[0].startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert not {"script", "link", "iframe", "object", "form", "base"} & {t for t, _ in found.tags}
    places = [a.get("src") or a.get("href") or "#" for _, a in found.tags]
    assert all(place.startswith(("#", "data:")) for place in places)


def test_hostile_words_become_no_element(page: str) -> None:
    labels = (HOSTILE, "$x$", "</title></style>")
    hostile = replace(
        made_up(labels=labels, texts=[HOSTILE]),
        title=HOSTILE,
        data_check=HOSTILE,
        provenance={HOSTILE: HOSTILE},
        bench={HOSTILE: [{HOSTILE: HOSTILE}]},
        importances={HOSTILE: 1.0},
        trials=[{"number": 0, "value": 0.5, "state": "complete", "params": {HOSTILE: HOSTILE}}],
    )
    tags = Elements(report_page(hostile)).tags
    assert {tag for tag, _ in tags} <= {tag for tag, _ in Elements(page).tags}
    assert not [name for _, found in tags for name in found if name.startswith("on")]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(made_up(30), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("build", "keys"),
    [
        (findings.arms, ["arms"]),
        (findings.differences, ["comparisons"]),
        (findings.emap, ["emap"]),
        (classes.confusions, ["arms"]),
        (classes.classes, ["arms"]),
        (costs.cost, ["cost"]),
    ],
)
def test_a_section_without_evidence_is_left_out(build: Build, keys: list[str]) -> None:
    assert build(made_up(40)) is not None
    assert build(without(made_up(40), *keys)) is None


@pytest.mark.parametrize(
    ("build", "changes"),
    [
        (curves.tuning, {"trials": []}),
        (curves.tuning, {"trials": [{"number": 0, "value": 0.1, "state": "pruned", "params": {}}]}),
        (curves.training, {"history": []}),
        (curves.training, {"history": [[]]}),
        (curves.feature_map, {"fused_features": None}),
        (curves.feature_map, {"fused_features": np.zeros((40, 5), np.float32)}),
        (gallery, {"predictions": {}}),
        (data_check, {"data_check": " "}),
        (provenance, {"provenance": {}}),
        (costs.speed, {"bench": {}}),
    ],
)
def test_a_section_without_its_input_is_left_out(build: Build, changes: dict[str, Any]) -> None:
    assert build(replace(made_up(40), bench=BENCH)) is not None
    assert build(replace(made_up(40), **changes)) is None


@pytest.mark.parametrize(
    ("build", "key"),
    [
        (findings.where, "strata"),
        (findings.arms, "missing_modality"),
        (classes.calibration, "selective"),
        (costs.cost, "arms"),
    ],
)
def test_a_section_shows_the_part_that_there_is(build: Build, key: str) -> None:
    assert build(without(made_up(40), key)) is not None


def test_a_run_with_the_evidence_alone_is_a_page() -> None:
    found = Elements(report_page(ReportInput("bare", made_up(40).evidence)))
    assert found.ids("section") == list(SECTIONS[:9])


def test_many_labels_give_matrices_of_the_main_arms_only() -> None:
    section = classes.confusions(made_up(200, labels=[f"topic {n}" for n in range(30)]))
    assert section is not None
    found = Elements(section.body)
    assert len(found.ids("figure")) == 3
    assert len(found.files["confusion-0"]) == 1 + 21 * 21


def test_joining_the_labels_that_are_not_shown_loses_no_pair() -> None:
    matrix = [[5.0, 1.0, 2.0], [0.0, 7.0, 3.0], [4.0, 0.0, 9.0]]
    names, cells = classes.joined_confusion(["a", "b", "c"], matrix, [1])
    assert names == ["b", "2 others"]
    assert cells == [[7.0, 3.0], [1.0, 20.0]]
    assert classes.joined_confusion(["a", "b", "c"], matrix, [0, 1, 2])[1] == matrix


def test_scores_that_do_not_exist_are_dashes() -> None:
    given = made_up(40, arms=("fused", "text-only"))
    first, second = given.evidence.arms
    nothing = Estimate(float("nan"), float("nan"), float("nan"))
    bare = replace(second, scores=replace(second.scores, auroc=nothing))
    section = findings.arms(
        replace(given, evidence=replace(given.evidence, arms=(first, bare), missing_modality={}))
    )
    assert section is not None
    table = section.body.rpartition("<details")[0].rpartition("<table")[2]
    assert table.count("\u2013") == 1


def test_calibrated_scores_stand_below_those_as_given() -> None:
    section = findings.arms(made_up())
    assert section is not None
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", section.body)
    [place] = [at for at, row in enumerate(rows) if "fused, calibrated" in row]
    given, scaled = rows[place - 1 : place + 1]
    after = made_up().evidence.calibration.after
    assert "<bdi>fused</bdi>" in given
    assert f"{after.ece:.3f}" in scaled
    assert f"{after.log_loss:.3f}" in scaled
    assert "Brier and ECE are of probabilities as a model gives them" in section.body


def test_a_cascade_that_never_skips_an_image_says_so() -> None:
    given = made_up(40)
    never = replace(given.evidence.cascade, threshold=2.0, saved=0.0)
    section = costs.cascade(replace(given, evidence=replace(given.evidence, cascade=never)))
    assert section is not None
    assert "image of every pair is needed" in section.body


def test_benchmarks_of_any_shape_are_shown() -> None:
    bench = {"growth": {"rows": [{"pairs": 1000, "tune": 2.5}], "slope": {"tune": 0.9}, "n": 3}}
    section = costs.speed(replace(made_up(40), bench={**bench, "odd": [1, "two"]}))
    assert section is not None
    assert all(word in section.body for word in ("1,000", "2.5", "slope", "0.9", "odd"))


def test_the_page_says_when_costs_were_measured_and_that_the_machine_was_busy() -> None:
    arms = [
        ArmCost("fused", 1.0, 1, 1, 1.0, 1.0, 1.0, 1.0, "cpu", load=load, measured=day)
        for load, day in ((0.5, "2026-01-01T10:00:00+00:00"), (2.0, "2026-01-03T10:00:00+00:00"))
    ]
    assert _when(arms[:1]) == "; 2026-01-01, the fastest of 5 rounds, load 0.5 on each core"
    assert "2026-01-01 to 2026-01-03" in _when(arms)
    assert _when(arms).endswith("the machine was busy, so times may be too long")
