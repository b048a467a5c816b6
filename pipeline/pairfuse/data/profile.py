"""Data check: what a data set holds, counted and shown on one screen; nothing is changed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pairfuse.data.duplicates import (
    KINDS,
    MAX_DISTANCE,
    Twins,
    common_texts,
    duplicate_groups,
    twins,
)
from pairfuse.data.pairs import MODALITIES, Dataset, Pair, Problem
from pairfuse.files import write_csv

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
QUANTILE_NAMES = ("least", "5 %", "median", "95 %", "most")
UNLABELLED = "no label"
SHOWN = 5
WIDEST = 100
#: What begins a formula (OWASP, CSV injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")
MANIFEST = (
    "guid",
    "split",
    "label",
    "has_text",
    "has_image",
    "text_length",
    "encoding",
    "replaced",
    "image_digest",
    "width",
    "height",
    "mode",
    "format",
    "duplicate_group",
    "problem",
)


@dataclass(frozen=True)
class Profile:
    """What a data set holds; counts are pairs, quantiles are those of `QUANTILES`."""

    name: str
    splits: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]  # split -> label -> pairs
    missing: Mapping[str, int]  # modality -> pairs
    text_length: tuple[int, ...]  # characters; empty without texts
    width: tuple[int, ...]  # pixels; empty without readable images
    height: tuple[int, ...]
    encodings: Mapping[str, int]
    replaced: int
    formats: Mapping[str, int]
    modes: Mapping[str, int]
    problems: Mapping[str, int]  # "image: missing" -> pairs
    twins: tuple[Twins, ...]
    left_out: Mapping[str, int]  # reason -> rows that are no pairs
    common_texts: Mapping[str, int]  # short text -> pairs that share it
    leaks: Mapping[str, int]  # kind of twins -> test pairs that have one among training pairs


def profile(dataset: Dataset, *, max_distance: int = MAX_DISTANCE) -> Profile:
    """Count what a data set holds; `max_distance` as in `duplicates.twins`."""
    images = [fact for fact in dataset.images.values() if not fact.error]
    found = twins(dataset, max_distance=max_distance)
    return Profile(
        name=dataset.root.name,
        splits=_counted(pair.split for pair in dataset.pairs),
        labels=_labels(dataset),
        missing={kind: sum(_lacks(pair, kind) for pair in dataset.pairs) for kind in MODALITIES},
        text_length=_quantiles(len(pair.text) for pair in dataset.pairs if pair.text is not None),
        width=_quantiles(fact.width for fact in images),
        height=_quantiles(fact.height for fact in images),
        encodings=_counted(decoding.encoding for decoding in dataset.decodings.values()),
        replaced=sum(decoding.replaced for decoding in dataset.decodings.values()),
        formats=_counted(fact.format for fact in images),
        modes=_counted(fact.mode for fact in images),
        problems=_counted(_reason(problem) for problem in dataset.problems),
        twins=found,
        leaks=_leaks(dataset, found),
        common_texts=common_texts(dataset),
        left_out=dataset.left_out,
    )


def summary(profile: Profile) -> str:
    """Show a profile as text: at most 40 lines of 100 columns."""
    lines = [
        f"{profile.name}: {sum(profile.splits.values())} pairs",
        "",
        *_label_lines(profile),
        "",
        *_quantile_lines(profile),
        "",
        _counts_line("encodings", profile.encodings, f"{profile.replaced} characters replaced"),
        _counts_line("formats", profile.formats),
        _counts_line("modes", profile.modes),
        _counts_line("missing", {k: n for k, n in profile.missing.items() if n}),
        *([_counts_line("left out", profile.left_out)] if profile.left_out else ()),
        "",
        *_problem_lines(profile.problems),
        "",
        *_twin_lines(profile.twins),
        *_leak_lines(profile),
        *_common_lines(profile.common_texts),
    ]
    return "\n".join(_fitted(line, WIDEST) for line in lines)


def write_manifest(dataset: Dataset, path: Path, *, max_distance: int = MAX_DISTANCE) -> None:
    """Write one CSV row for each pair, in order; the columns are `MANIFEST`.

    It is for people: no cell of it is a formula to a spreadsheet.
    """
    rows = _manifest_rows(dataset, max_distance)
    write_csv(path, MANIFEST, (tuple(map(_defused, row)) for row in rows))


def _defused(cell: object) -> object:
    """The cell; a word that a spreadsheet would take for a formula behind an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _manifest_rows(dataset: Dataset, max_distance: int) -> Iterator[tuple[object, ...]]:
    reasons: dict[str, list[str]] = {}
    for problem in dataset.problems:
        reasons.setdefault(problem.guid, []).append(f"{problem.modality}: {problem.reason}")
    groups = duplicate_groups(dataset, max_distance=max_distance).tolist()
    for pair, group in zip(dataset.pairs, groups, strict=True):
        decoding, fact = dataset.decodings.get(pair.guid), dataset.images.get(pair.guid)
        usable = fact if fact and not fact.error else None
        yield (
            pair.guid,
            pair.split,
            pair.label or "",
            int(pair.text is not None),
            int(pair.image is not None),
            len(pair.text or ""),
            decoding.encoding if decoding else "",
            decoding.replaced if decoding else "",
            fact.digest if fact else "",
            usable.width if usable else "",
            usable.height if usable else "",
            usable.mode if usable else "",
            usable.format if usable else "",
            group,
            "; ".join(reasons.get(pair.guid, ())),
        )


def _lacks(pair: Pair, modality: str) -> bool:
    return (pair.text if modality == "text" else pair.image) is None


def _labels(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Labels in the order of the vocabulary, then those of test pairs alone; none last."""
    unseen = {p.label for p in dataset.pairs if p.label is not None} - set(dataset.labels)
    names = (*dataset.labels, *sorted(unseen), UNLABELLED)
    counts = Counter((pair.split, pair.label or UNLABELLED) for pair in dataset.pairs)
    return {
        split: {name: counts[split, name] for name in names if counts[split, name]}
        for split in dict.fromkeys(pair.split for pair in dataset.pairs)
    }


def _reason(problem: Problem) -> str:
    """Numbers in brackets tell files apart, not reasons."""
    return f"{problem.modality}: " + re.sub(r"\s*\([^()]*\d[^()]*\)", "", problem.reason)


def _counted(words: Iterable[str]) -> dict[str, int]:
    """Counts, most frequent first, then by name."""
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _quantiles(values: Iterable[int]) -> tuple[int, ...]:
    numbers = np.fromiter(values, dtype=np.int64)
    if not len(numbers):
        return ()
    # "lower" gives numbers that occur, so that the least and the most are exact.
    return tuple(int(n) for n in np.quantile(numbers, QUANTILES, method="lower"))


def _label_lines(profile: Profile) -> list[str]:
    names = list(dict.fromkeys(name for counts in profile.labels.values() for name in counts))
    totals = {name: sum(c.get(name, 0) for c in profile.labels.values()) for name in names}
    rows = [_label_row(name, profile) for name in names[: 2 * SHOWN]]
    if rest := names[2 * SHOWN :]:
        rows.append(f"{f'{len(rest)} more labels':<20}{sum(totals[n] for n in rest):>16}")
    head = "".join(f"{split:>16}" for split in profile.labels)
    total = "".join(f"{count:>8}{'':8}" for count in map(profile.splits.get, profile.labels))
    return [f"{'pairs':<20}{head}", *rows, f"{'together':<20}{total}".rstrip()]


def _label_row(name: str, profile: Profile) -> str:
    cells = f"{_fitted(name, 19):<20}"
    for split, counts in profile.labels.items():
        count = counts.get(name, 0)
        cells += f"{count:>8}{count / profile.splits[split]:>8.1%}"
    return cells


def _quantile_lines(profile: Profile) -> list[str]:
    rows = {
        "text, characters": profile.text_length,
        "image width, px": profile.width,
        "image height, px": profile.height,
    }
    head = f"{'':<20}" + "".join(f"{name:>9}" for name in QUANTILE_NAMES)
    return [
        head,
        *(
            f"{name:<20}" + ("".join(f"{n:>9}" for n in row) or "none")
            for name, row in rows.items()
        ),
    ]


def _counts_line(name: str, counts: Mapping[str, int], note: str = "") -> str:
    parts = [f"{word or 'unknown'} {count}" for word, count in list(counts.items())[:SHOWN]]
    if len(counts) > SHOWN:
        parts.append(f"{len(counts) - SHOWN} others")
    return f"{name:<20}" + (", ".join(parts) or "none") + (f"; {note}" if note else "")


def _problem_lines(problems: Mapping[str, int]) -> list[str]:
    if not problems:
        return [f"{'problems':<20}none"]
    lines = [f"{count:>8}  {reason}" for reason, count in list(problems.items())[:SHOWN]]
    if rest := list(problems.values())[SHOWN:]:
        lines.append(f"{sum(rest):>8}  for {len(rest)} other reasons")
    return ["problems", *lines]


def _twin_lines(found: tuple[Twins, ...]) -> list[str]:
    heads = ("groups", "pairs", "largest", "train/test", "labels differ")
    lines = [f"{'the same thing':<20}" + "".join(f"{head:>14}" for head in heads)]
    for kind in KINDS:
        sizes = [len(twin.guids) for twin in found if twin.kind == kind]
        across = sum(twin.across for twin in found if twin.kind == kind)
        differ = sum(len(twin.labels) > 1 for twin in found if twin.kind == kind)
        cells = (len(sizes), sum(sizes), max(sizes, default=0), across, differ)
        lines.append(f"{kind:<20}" + "".join(f"{cell:>14}" for cell in cells))
    return lines


def _leaks(dataset: Dataset, found: tuple[Twins, ...]) -> dict[str, int]:
    """Test pairs that have a twin among the training pairs, by the kind of twins."""
    test = {pair.guid for pair in dataset.split("test")}
    across = [twin for twin in found if twin.across]
    counts = {kind: [t.guids for t in across if t.kind == kind] for kind in KINDS}
    return {
        kind: sum(guid in test for guids in groups for guid in guids)
        for kind, groups in counts.items()
        if groups
    }


def _leak_lines(profile: Profile) -> list[str]:
    if not profile.leaks:
        return []
    *kinds, (_, together) = profile.leaks.items()
    named = ", ".join(f"{kind} {count}" for kind, count in kinds)
    return [f"{together} of {profile.splits['test']} test pairs have a twin in training: {named}"]


def _common_lines(common: Mapping[str, int]) -> list[str]:
    return [
        f"{count:>8} pairs have the text {text!r}: they are the same only where the image is too"
        for text, count in list(common.items())[:SHOWN]
    ]


def _fitted(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."
