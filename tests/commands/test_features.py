"""`pairfuse features`: what is in the store is not computed again."""

from __future__ import annotations

from pathlib import Path

import pytest

from toys.commands import run_command


def test_features_are_computed_once(
    root: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert run_command("features", root, cache) == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all("nothing computed" in line for line in said)
    after = {p: p.stat().st_mtime_ns for p in (cache / "features").rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize(("long", "said"), [(2, True), (1, False)])
def test_where_many_texts_are_cut_the_length_that_holds_them_is_named(
    long: int, said: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["cat " * (9 + n if n < long else 1) + f"{n}" for n in range(10)]
    lines = [f"{n},{text},{'ab'[n % 2]}" for n, text in enumerate(texts)]
    (tmp_path / "items.csv").write_text("\n".join(["guid,text,label", *lines]))
    more = ("--encoders", "minilm", "--max-length", "8")
    assert run_command("features", tmp_path / "items.csv", tmp_path / "cache", *more) == 0
    out = capsys.readouterr().out
    assert f"{long} texts cut at 8 tokens" in out
    assert ("95 % of the texts fit in --max-length 13" in out) == said
