from __future__ import annotations

import csv
import io
from urllib.parse import unquote

import pytest

from pairfuse.report import markup
from pairfuse.stats.bootstrap import Estimate

HOSTILE = "<script>alert('1')</script> & \""


def test_a_value_cannot_become_markup() -> None:
    said = markup.tag("p", markup.text(HOSTILE), title=HOSTILE)
    assert said.count("<") == 2
    assert said.count('"') == 2


def test_characters_that_no_page_may_hold_are_replaced() -> None:
    assert markup.text("a\x00b\ud800c\ufffed") == "a\ufffdb\ufffdc\ufffdd"


def test_a_cell_of_a_table_is_escaped_and_isolated() -> None:
    said = markup.table(["name", "value"], [[HOSTILE, HOSTILE]])
    assert "<script" not in said
    assert said.count("<bdi>") == 2


def test_an_estimate_in_a_table_has_its_interval_below_it() -> None:
    found = markup.interval(Estimate(0.5, 0.4, 0.6))
    said = markup.table(["arm", "score"], [["fused", found]])
    assert ">0.500<small>0.400 to 0.600</small><" in said


def test_a_number_is_not_parted_from_its_percent_sign() -> None:
    assert markup.words("with 80 % power") == "<p>with 80\u00a0% power</p>"


def test_what_stands_in_backticks_is_code() -> None:
    assert markup.words("run `a < b` now") == "<p>run <code>a &lt; b</code> now</p>"
    assert markup.words("a ` alone") == "<p>a ` alone</p>"


def test_words_with_a_range_in_brackets_stay_words() -> None:
    said = markup.table(["part", "name"], [["text", "middle (40 to 90)"]])
    assert "middle (40 to 90)" in said


def test_what_a_csv_link_saves_is_what_was_given() -> None:
    rows = [("a,b\n\u00e9 #%&+", 0.123456789), ("", None)]
    link = markup.csv_link("x", ("name", "value"), rows)
    href = link.split('href="')[1].split('"')[0]
    found = list(csv.reader(io.StringIO(unquote(href.split(",", 1)[1]))))
    assert found == [["name", "value"], ["a,b\n\u00e9 #%&+", "0.123457"], ["", ""]]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (markup.number(0.12345), "0.123"),
        (markup.number(-0.5), "\u22120.500"),
        (markup.number(12345), "12,345"),
        (markup.number(None), "\u2013"),
        (markup.number(float("nan")), "\u2013"),
        (markup.signed(0.02), "+0.020"),
        (markup.signed(-0.02), "\u22120.020"),
        (markup.percent(0.413), "41 %"),
        (markup.percent(None), "\u2013"),
        (markup.p_value(1e-9), "<0.001"),
        (markup.p_value(0.04), "0.040"),
        (markup.interval(0.5), "0.500"),
        (markup.interval(None), "\u2013"),
    ],
)
def test_numbers_are_written_as_people_write_them(said: str, expected: str) -> None:
    assert said == expected


def test_a_long_name_keeps_both_its_ends() -> None:
    found = markup.squeezed("efficientnet-lite0 + minilm + ngram", 16)
    assert len(found) == 16
    assert found.startswith("effic")
    assert found.endswith("ngram")


def test_a_short_name_stays_as_it_is() -> None:
    assert markup.squeezed("fused", 5) == "fused"
    assert markup.short("fused", 5) == "fused"
