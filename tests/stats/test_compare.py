"""Tables of predictions by any program are compared by guid, and refused in one line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairfuse.errors import DataError
from pairfuse.stats.compare import (
    align,
    compare_predictions,
    comparison_lines,
)
from pairfuse.stats.metrics import macro_f1
from pairfuse.stats.predictions import Predictions, load_predictions

PLAIN = "guid,tag,truth\n1,good,good\n2,bad,good\n3,bad,bad\n"
SOFT = "guid,truth,tag,p_good,p_bad\n1,good,good,0.9,0.1\n2,good,bad,.3,.7\n3,bad,bad,0.2,0.8\n"


def _write(folder: Path, text: str, name: str = "first.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text(text, encoding)
    return path


def _load(folder: Path, text: str, name: str = "first.csv") -> Predictions:
    return load_predictions(_write(folder, text, name))


def _many(rows: int, right: float, seed: int) -> tuple[str, list[str]]:
    """A table of y_pred, right this often, and its lines."""
    random = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        truth = "xyz"[row % 3]
        guess = truth if random.random() < right else "xyz"[random.integers(3)]
        lines.append(f"{row},{truth},{guess}")
    return "\n".join(["guid,truth,tag", *lines]), lines


def test_a_table_of_guesses_is_read(tmp_path: Path) -> None:
    found = _load(tmp_path, PLAIN)
    assert found.guids == ("1", "2", "3")
    assert found.truth == ("good", "good", "bad")
    assert found.y_pred == ("good", "bad", "bad")
    assert found.labels == ("bad", "good")
    assert found.probabilities is None
    assert found.groups is None


def test_a_table_of_probabilities_is_read(tmp_path: Path) -> None:
    found = _load(tmp_path, SOFT)
    assert found.labels == ("good", "bad")
    assert found.probabilities is not None
    assert np.allclose(found.probabilities, [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])


def test_rounded_probabilities_are_brought_to_one(tmp_path: Path) -> None:
    found = _load(tmp_path, "guid,truth,p_a,p_b,p_c\n1,a,.33,.33,.33\n2,b,.2,.405,.4\n")
    assert found.probabilities is not None
    assert found.probabilities.sum(axis=1) == pytest.approx(1)


def test_without_a_tag_the_most_probable_label_is_the_guess(tmp_path: Path) -> None:
    found = _load(tmp_path, "id,truth,p_a,p_b\n1,a,.4,.6\n2,b,1,0\n")
    assert found.y_pred == ("b", "a")


@pytest.mark.parametrize("header", ["id,prediction,truth", "GUID, Label ,Truth", "guid,tag,TRUTH"])
def test_columns_may_have_other_names(tmp_path: Path, header: str) -> None:
    text = PLAIN.replace("guid,tag,truth", header)
    assert _load(tmp_path, text).y_pred == ("good", "bad", "bad")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_byte_order_mark_and_other_line_ends_do_not_matter(tmp_path: Path, encoding: str) -> None:
    text = PLAIN.replace("good", "gut ü").replace("\n", "\r\n") + "\r\n"
    found = load_predictions(_write(tmp_path, text, encoding=encoding))
    assert found.guids == ("1", "2", "3")
    assert found.y_pred == ("gut ü", "bad", "bad")


def test_the_truth_may_be_in_another_table_in_another_order(tmp_path: Path) -> None:
    truth = _write(tmp_path, "guid,tag\n9,bad\n3,bad\n2,good\n1,good\n", "truth.csv")
    path = _write(tmp_path, "guid,tag\n1,good\n2,bad\n3,bad\n")
    assert load_predictions(path, truth).truth == ("good", "good", "bad")


BROKEN = {
    "empty": ("", "holds no rows"),
    "header only": ("guid,tag,truth\n", "holds no rows"),
    "no guid": ("tag,truth\na,b\n", "no column 'guid'"),
    "no tag": ("guid,truth\n1,b\n", "no column 'tag'"),
    "no truth": ("guid,tag\n1,b\n", "no column 'truth'"),
    "ragged": (PLAIN + "4,good\n", "line 5: 2 cells, the header has 3"),
    "guid twice": (PLAIN + "1,bad,bad\n", "guid '1' 2 times"),
    "guid empty": (PLAIN + ",bad,bad\n", "without a guid"),
    "column twice": ("guid,tag,tag,truth\n1,a,a,a\n", "column 'tag' twice"),
    "label twice": ("guid,truth,p_a,p_a\n1,a,1,0\n", "column 'p_a' twice"),
    "tag empty": (PLAIN + "4,,bad\n", "1 row without a tag, first guid '4'"),
    "truth empty": (PLAIN + "4,bad,null\n", "1 row without a truth, first guid '4'"),
    "nan": (SOFT.replace("0.9,0.1", "nan,0.1"), "outside [0, 1], first guid '1' with nan"),
    "logits": (SOFT.replace("0.9,0.1", "2.5,-1"), "give probabilities, not logits"),
    "no number": (SOFT.replace("0.9", "high"), "no number"),
    "no sum": (SOFT.replace(".3,.7", ".3,.5"), "do not sum to 1, first guid '2' with 0.8"),
    "unknown tag": (SOFT.replace("good,bad,.3", "good,odd,.3"), "guid '2' has the label 'odd'"),
    "unknown truth": (SOFT.replace("3,bad", "3,odd"), "guid '3' has the label 'odd'"),
    "tag against": (SOFT.replace("2,good,bad", "2,good,good"), "tag is not the most probable"),
    "huge cell": (PLAIN + '4,"' + "x" * 200_000 + '",bad\n', "not a table"),
    "open quote": (PLAIN + '4,"bad,bad\n', "not a table"),
}


@pytest.mark.parametrize("case", list(BROKEN))
def test_a_broken_table_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    text, words = BROKEN[case]
    path = tmp_path / "first.csv"
    path.write_bytes(text.encode())
    with pytest.raises(DataError) as caught:
        load_predictions(path)
    message = str(caught.value)
    assert words in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 500 + len(str(path))


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "first.csv"
    path.write_bytes(PLAIN.encode("utf-16"))
    with pytest.raises(DataError, match="is not UTF-8"):
        load_predictions(path)
    with pytest.raises(DataError, match="cannot be read"):
        load_predictions(tmp_path / "absent.csv")
    with pytest.raises(DataError, match="cannot be read"):
        load_predictions(tmp_path)


def test_a_truth_table_that_lacks_guids_is_refused(tmp_path: Path) -> None:
    truth = _write(tmp_path, "guid,tag\n1,good\n", "truth.csv")
    path = _write(tmp_path, "guid,tag\n1,good\n2,bad\n3,bad\n")
    with pytest.raises(DataError, match=r"no label for 2 rows .* first for guid '2'"):
        load_predictions(path, truth)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=60)
    | st.text('guidtagrhp_x01,.-"\n\r\0 ', max_size=60).map(str.encode)
    | st.text(max_size=30).map(lambda end: (PLAIN + end).encode("utf-8", "replace"))
    | st.text(max_size=10).map(lambda part: SOFT.replace("0.9", part).encode("utf-8", "replace"))
)
def test_no_bytes_give_anything_but_predictions_or_an_error_of_ours(
    tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "hostile.csv"
    path.write_bytes(data)
    with contextlib.suppress(DataError):
        found = load_predictions(path)
        assert len(found.guids) == len(found.truth) == len(found.y_pred) > 0


def test_rows_are_matched_by_guid_not_by_place(tmp_path: Path) -> None:
    text, lines = _many(60, 0.7, 0)
    mixed = "\n".join(["guid,truth,tag", *np.random.default_rng(0).permutation(lines)])
    aligned = align(_load(tmp_path, text), _load(tmp_path, mixed, "second.csv"))
    one, other = aligned.arms.values()
    assert one.shape == (1, 60, 3)
    assert np.array_equal(one, other)


def test_guesses_become_rows_of_one_beside_probabilities(tmp_path: Path) -> None:
    aligned = align(_load(tmp_path, PLAIN), _load(tmp_path, SOFT, "second.csv"))
    assert aligned.labels == ("good", "bad")
    assert aligned.targets.tolist() == [0, 0, 1]
    one, other = aligned.arms.values()
    assert one[0].tolist() == [[1, 0], [0, 1], [0, 1]]
    assert np.allclose(other[0], [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])


def test_a_label_that_one_program_never_heard_of_has_probability_nothing(tmp_path: Path) -> None:
    other = PLAIN.replace("2,bad,good", "2,odd,good")
    aligned = align(_load(tmp_path, SOFT), _load(tmp_path, other, "second.csv"))
    assert aligned.labels == ("good", "bad", "odd")
    first, second = aligned.arms.values()
    assert first[0, :, 2].tolist() == [0, 0, 0]
    assert second[0, 1].tolist() == [0, 0, 1]


def test_a_tie_made_by_rounding_is_the_tags(tmp_path: Path) -> None:
    text = "guid,truth,tag,p_a,p_b\n1,a,b,0.5,0.5\n2,b,a,0.5,0.5\n3,b,b,0.5004,0.4996\n"
    aligned = align(_load(tmp_path, text), _load(tmp_path, text, "second.csv"))
    assert next(iter(aligned.arms.values()))[0].argmax(axis=1).tolist() == [1, 0, 1]


DIFFERENT = {
    "first lacks": (PLAIN + "4,bad,bad\n5,bad,bad\n", "first.csv lacks 2 rows .*guid '4'"),
    "second lacks": (PLAIN.replace("3,bad,bad\n", ""), "second.csv lacks 1 row .*guid '3'"),
    "truth": (PLAIN.replace("3,bad,bad", "3,bad,good"), "disagree on the truth of 1 row, .*'3'"),
}


@pytest.mark.parametrize("case", list(DIFFERENT))
def test_predictions_of_other_pairs_are_refused(tmp_path: Path, case: str) -> None:
    text, words = DIFFERENT[case]
    first, second = _load(tmp_path, PLAIN), _load(tmp_path, text, "second.csv")
    with pytest.raises(DataError, match=words):
        align(first, second)


def test_a_table_is_not_compared_with_itself_nor_over_one_label(tmp_path: Path) -> None:
    found = _load(tmp_path, PLAIN)
    with pytest.raises(DataError, match="name two different ones"):
        align(found, found)
    same = "guid,tag,truth\n1,a,a\n2,a,a\n"
    with pytest.raises(DataError, match="a comparison needs two"):
        align(_load(tmp_path, same), _load(tmp_path, same, "second.csv"))


@pytest.mark.parametrize("grouped", ["first.csv", "second.csv"])
def test_groups_come_from_either_table(tmp_path: Path, grouped: str) -> None:
    with_groups = "guid,tag,truth,group\n3,bad,bad,g\n2,bad,good,\n1,good,good,g\n"
    texts = {"first.csv": PLAIN, "second.csv": PLAIN, grouped: with_groups}
    first, second = (_load(tmp_path, text, name) for name, text in texts.items())
    groups = dict(zip(first.guids, align(first, second).groups.tolist(), strict=True))
    assert groups["1"] == groups["3"] != groups["2"]


def test_rows_without_a_group_are_no_group(tmp_path: Path) -> None:
    text = "guid,tag,truth,group\n1,good,good,\n2,bad,good,\n3,bad,bad,1\n"
    aligned = align(_load(tmp_path, text), _load(tmp_path, PLAIN, "second.csv"))
    assert len(set(aligned.groups.tolist())) == 3


def test_two_files_are_scored_and_compared(tmp_path: Path) -> None:
    paths = [
        _write(tmp_path, _many(300, right, seed)[0], f"{right}.csv")
        for seed, right in enumerate((0.9, 0.4))
    ]
    found = compare_predictions(*map(load_predictions, paths), seed=0, resamples=500)
    read = load_predictions(paths[0])
    targets, y_pred = (
        np.array(["xyz".index(label) for label in labels]) for labels in (read.truth, read.y_pred)
    )
    first, second = found.scores.values()
    assert first.macro_f1.value == pytest.approx(macro_f1(targets, y_pred, 3))
    gap = found.comparison.difference
    assert gap.value == pytest.approx(first.macro_f1.value - second.macro_f1.value)
    assert 0.2 < gap.low < gap.value < gap.high < 0.7
    assert found.comparison.permutation < 0.01


def test_the_words_hold_the_numbers_of_both(tmp_path: Path) -> None:
    first = _load(tmp_path, _many(90, 0.7, 0)[0])
    second = _load(tmp_path, _many(90, 0.5, 1)[0], "second.csv")
    found = compare_predictions(first, second, seed=0, resamples=200)
    words = "\n".join(comparison_lines(found))
    assert "90 pairs in 90 groups" in words
    for name, scores in found.scores.items():
        assert f"{name}: accuracy {scores.accuracy.value:.3f}" in words
    assert f"{found.comparison.difference.value:+.3f}" in words
    assert f"{found.comparison.pairs_needed:,} pairs" in words


def test_without_a_difference_nothing_is_said_of_seeing_it(tmp_path: Path) -> None:
    first, second = _load(tmp_path, PLAIN), _load(tmp_path, PLAIN, "second.csv")
    found = compare_predictions(first, second, seed=0, resamples=50)
    assert not [line for line in comparison_lines(found) if "studies" in line]
