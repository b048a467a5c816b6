"""Tables of predictions by any program are compared by guid, and refused in one line."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pairfuse.arrays import Doubles, Ints
from pairfuse.errors import DataError, PairfuseError
from pairfuse.stats.compare import (
    align,
    compare,
    compare_predictions,
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
        label = truth if random.random() < right else "xyz"[random.integers(3)]
        lines.append(f"{row},{truth},{label}")
    return "\n".join(["guid,truth,tag", *lines]), lines


def test_a_table_of_labels_is_read(tmp_path: Path) -> None:
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


def test_without_a_tag_the_most_probable_label_is_predicted(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("own", ["guid,tag\n1,good\n2,bad\n3,bad\n", PLAIN])
def test_groups_of_the_table_of_truth_count(tmp_path: Path, own: str) -> None:
    truth = _write(tmp_path, "guid,tag,group\n3,bad,g\n2,good,\n1,good,g\n", "truth.csv")
    assert load_predictions(_write(tmp_path, own), truth).groups == ("g", "", "g")


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
    assert one.shape == (60, 3)
    assert np.array_equal(one, other)


def test_labels_become_rows_of_one_beside_probabilities(tmp_path: Path) -> None:
    aligned = align(_load(tmp_path, PLAIN), _load(tmp_path, SOFT, "second.csv"))
    assert aligned.labels == ("good", "bad")
    assert aligned.targets.tolist() == [0, 0, 1]
    one, other = aligned.arms.values()
    assert one.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert np.allclose(other, [[0.9, 0.1], [0.3, 0.7], [0.2, 0.8]])


def test_a_label_that_one_program_never_heard_of_has_probability_nothing(tmp_path: Path) -> None:
    other = PLAIN.replace("2,bad,good", "2,odd,good")
    aligned = align(_load(tmp_path, SOFT), _load(tmp_path, other, "second.csv"))
    assert aligned.labels == ("good", "bad", "odd")
    first, second = aligned.arms.values()
    assert first[:, 2].tolist() == [0, 0, 0]
    assert second[1].tolist() == [0, 0, 1]


def test_a_tie_made_by_rounding_is_the_tags(tmp_path: Path) -> None:
    text = "guid,truth,tag,p_a,p_b\n1,a,b,0.5,0.5\n2,b,a,0.5,0.5\n3,b,b,0.5004,0.4996\n"
    aligned = align(_load(tmp_path, text), _load(tmp_path, text, "second.csv"))
    assert next(iter(aligned.arms.values())).argmax(axis=1).tolist() == [1, 0, 1]


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
    [comparison] = found.comparisons
    gap = comparison.difference
    assert gap.value == pytest.approx(first.macro_f1.value - second.macro_f1.value)
    assert 0.2 < gap.low < gap.value < gap.high < 0.7
    assert comparison.p_permutation < 0.01


def test_the_words_hold_the_numbers_of_both(tmp_path: Path) -> None:
    first = _load(tmp_path, _many(90, 0.7, 0)[0])
    second = _load(tmp_path, _many(90, 0.5, 1)[0], "second.csv")
    found = compare_predictions(first, second, seed=0, resamples=200)
    said, [comparison] = str(found), found.comparisons
    assert "90 pairs" in said
    for name, scores in found.scores.items():
        assert name in said
        assert f"{scores.accuracy.value:.3f} ({scores.accuracy.low:.3f} to" in said
    assert f"{comparison.difference.value:+.3f}" in said
    assert (
        f"differences of {comparison.detectable:.3f} or more are detected with 80 % power" in said
    )


def test_rows_of_a_group_are_one_in_every_test(tmp_path: Path) -> None:
    """Each pair nine times: neither test may be surer than of the pairs once."""
    tables = {}
    for name, right, seed in (("first", 0.7, 0), ("second", 0.45, 1)):
        lines = _many(60, right, seed)[1]
        copies = [f"{copy}-{line},{at}" for copy in range(9) for at, line in enumerate(lines)]
        text = "\n".join(["guid,truth,tag,group", *copies])
        tables[name] = _load(tmp_path, text, f"{name}.csv")
    found = compare_predictions(tables["first"], tables["second"], seed=0, resamples=300)
    [whole] = found.comparisons
    loose = (replace(each, groups=None) for each in tables.values())
    [rows] = compare_predictions(*loose, seed=0, resamples=300).comparisons
    assert rows.p_accuracy < 1e-4 < 0.01 < whole.p_accuracy
    assert "McNemar test on accuracy (of whole groups)" in str(found)


def test_without_a_difference_nothing_is_said_of_detecting_it(tmp_path: Path) -> None:
    first, second = _load(tmp_path, PLAIN), _load(tmp_path, PLAIN, "second.csv")
    found = compare_predictions(first, second, seed=0, resamples=50)
    assert "cannot be determined" in str(found)
    assert "no resample tells them apart" in str(found)
    assert "power" not in str(found)


def test_of_pairs_that_are_all_in_one_group_no_model_is_called_the_same() -> None:
    truth = ["good", "bad"] * 10
    found = compare(truth, {"a": truth, "b": ["good"] * 20}, groups=["g"] * 20, resamples=50)
    assert "cannot be determined: a minus b is +0.667" in str(found)
    assert "all pairs are in one group" in str(found)


def test_a_label_with_a_column_of_probabilities_is_a_label_whatever_it_is_called(
    tmp_path: Path,
) -> None:
    text = "guid,truth,tag,p_None,p_nan\n1,None,None,0.9,0.1\n2,nan,nan,0.2,0.8\n"
    found = load_predictions(_write(tmp_path, text))
    assert found.truth == found.y_pred == ("None", "nan")


def _models(rows: int = 240, seed: int = 0) -> tuple[Ints, dict[str, Doubles]]:
    """Targets, and probabilities of a good, a like and a poor model."""
    random = np.random.default_rng(seed)
    targets = random.integers(3, size=rows)
    tables = {}
    for name, strength in {"good": 2.0, "like": 1.9, "poor": 0.2}.items():
        logits = random.standard_normal((rows, 3)) + strength * np.eye(3)[targets]
        odds = np.exp(logits)
        tables[name] = odds / odds.sum(axis=1, keepdims=True)
    return targets, tables


def test_neither_torch_nor_scikit_learn_nor_pandas_is_imported() -> None:
    code = (
        "import sys, pairfuse.stats.compare; "
        "print(sorted({'torch', 'sklearn', 'pandas', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_labels_and_probabilities_of_one_model_score_the_same() -> None:
    targets, tables = _models()
    found = compare(
        targets,
        {"soft": tables["good"], "hard": tables["good"].argmax(axis=1), "poor": tables["poor"]},
        resamples=100,
    )
    assert found.scores["soft"].macro_f1 == found.scores["hard"].macro_f1
    assert found.scores["soft"].log_loss != found.scores["hard"].log_loss


def test_string_labels_are_compared_as_integers_are() -> None:
    targets, tables = _models()
    names = np.array(["a", "b", "c"])
    given = {name: table.argmax(axis=1) for name, table in tables.items()}
    by_name = compare(names[targets], {k: names[v] for k, v in given.items()}, resamples=100)
    assert by_name.comparisons == compare(targets.tolist(), given, resamples=100).comparisons


def test_columns_follow_the_labels_that_are_named() -> None:
    targets, tables = _models()
    names = np.array(["z", "y", "x"])
    turned = {name: table[:, ::-1] for name, table in tables.items()}
    by_order = compare(names[targets], turned, resamples=100)
    named = compare(names[targets], tables, labels=["z", "y", "x"], resamples=100)
    for one, other in zip(by_order.comparisons, named.comparisons, strict=True):
        assert one.difference.value == pytest.approx(other.difference.value)
        assert one.p_accuracy == other.p_accuracy


def test_a_class_without_a_row_keeps_its_column() -> None:
    targets, tables = _models()
    found = compare(np.minimum(targets, 1), tables, resamples=50)
    assert [each.label for each in found.scores["good"].classes] == ["0", "1", "2"]


def test_repeats_are_averaged_and_one_prediction_stands_beside_them() -> None:
    targets, tables = _models()
    repeated = np.stack([tables["good"], tables["like"]])
    found = compare(targets, {"twice": repeated, "once": tables["poor"]}, resamples=100)
    one = compare(targets, {"good": tables["good"], "like": tables["like"]}, resamples=100)
    mean = np.mean([scores.macro_f1.value for scores in one.scores.values()])
    assert found.scores["twice"].macro_f1.value == pytest.approx(mean)


def test_three_models_are_compared_in_all_pairs_with_adjusted_p_values() -> None:
    targets, tables = _models()
    found = compare(targets, tables, resamples=200)
    assert [(c.first, c.second) for c in found.comparisons] == [
        ("good", "like"),
        ("good", "poor"),
        ("like", "poor"),
    ]
    assert all(c.p_holm >= c.p_permutation for c in found.comparisons)
    said = str(found)
    assert "Which of good and like is better cannot be determined" in said
    assert "good is better than poor" in said
    assert "adjusted for 3 comparisons" in said


def test_the_better_model_is_named_first_whatever_the_order() -> None:
    targets, tables = _models()
    found = compare(targets, {"poor": tables["poor"], "good": tables["good"]}, resamples=200)
    assert "good is better than poor: its macro-F1 is higher by +" in str(found)


def test_duplicates_are_resampled_together() -> None:
    targets, tables = _models(60)
    copies = {name: np.tile(table, (4, 1)) for name, table in tables.items()}
    groups = np.tile([f"cluster {n}" for n in range(60)], 4)
    found = compare(np.tile(targets, 4), copies, groups=groups, resamples=200)
    once = compare(targets, tables, resamples=200)
    assert (found.rows, found.groups) == (240, 60)
    assert "240 pairs (60 after joining duplicates)" in str(found)
    widths = [
        each.comparisons[1].difference.high - each.comparisons[1].difference.low
        for each in (found, once)
    ]
    assert widths[0] == pytest.approx(widths[1], rel=0.25)


def test_a_notebook_shows_a_table_and_escapes_names() -> None:
    targets, tables = _models()
    found = compare(targets, {"<b>": tables["good"], "poor": tables["poor"]}, resamples=50)
    page = found._repr_html_()
    assert page.count("<tr>") == 3
    assert "<b>" not in page


def test_a_frame_has_a_row_for_each_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    targets, tables = _models()
    found = compare(targets, tables, resamples=50)
    rows = found.to_frame()
    assert [row["first"] for row in rows] == ["good", "good", "like"]
    assert [row["difference"] for row in rows] == [c.difference.value for c in found.comparisons]


def test_without_pandas_a_frame_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    targets, tables = _models()
    with pytest.raises(PairfuseError, match="pip install pandas"):
        compare(targets, tables, resamples=50).to_frame()


ROWS = ["a", "b", "a"]
UNUSABLE: dict[str, tuple[object, dict[str, object], dict[str, object], str]] = {
    "one model": (ROWS, {"m": ROWS}, {}, "needs two models"),
    "one label": (["a"] * 3, {"m": ["a"] * 3, "n": ["a"] * 3}, {}, "there is one label, 'a'"),
    "length": (ROWS, {"m": ROWS, "n": ["a"]}, {}, "n has 1 row, y_true 3"),
    "no rows": ([], {"m": [], "n": []}, {}, r"y_true has the shape \(0,\)"),
    "table": (ROWS, {"m": ROWS, "n": np.ones((2, 2)) / 2}, {}, r"n has the shape \(2, 2\)"),
    "logits": (ROWS, {"m": ROWS, "n": [[2.0, -1.0]] * 3}, {}, "n holds no probabilities"),
    "nan": (ROWS, {"m": ROWS, "n": [[np.nan, 1.0]] * 3}, {}, "n holds no probabilities"),
    "columns": (ROWS, {"m": ROWS, "n": np.ones((3, 3)) / 3}, {}, "3 columns for 2 labels"),
    "kinds": (ROWS, {"m": ROWS, "n": [0, 1, 0]}, {}, "mix strings and integers"),
    "missing": (["a", None, "b"], {"m": ROWS, "n": ROWS}, {}, "y_true holds None"),
    "continuous": ([0.5, 1, 0], {"m": [0, 1, 0], "n": [0, 1, 0]}, {}, "y_true holds 0.5"),
    "unknown": (ROWS, {"m": ROWS, "n": ROWS}, {"labels": ["a", "c"]}, "'b' is not among labels"),
    "groups": (ROWS, {"m": ROWS, "n": ROWS}, {"groups": [1]}, r"groups has the shape \(1,\)"),
    "repeats": (
        ROWS,
        {"m": np.ones((2, 3, 2)) / 2, "n": np.ones((3, 3, 2)) / 2},
        {},
        "m has 2 repeats, another model 3",
    ),
}


@pytest.mark.parametrize("case", list(UNUSABLE))
def test_what_cannot_be_compared_is_refused_in_one_line(case: str) -> None:
    y_true, predictions, options, words = UNUSABLE[case]
    with pytest.raises(DataError, match=words) as caught:
        compare(y_true, predictions, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
