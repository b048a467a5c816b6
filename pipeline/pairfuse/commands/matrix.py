"""`pairfuse matrix`: every combination of encoders and heads under the same folds and budget."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairfuse.commands.flags import Subparsers, add_configured, workspace_of
from pairfuse.console import columns, say, wrapped

if TYPE_CHECKING:
    from pairfuse.commands.workspace import Workspace
    from pairfuse.study.cost import ArmCost
    from pairfuse.study.matrix import MatrixRow, ModelResult

#: Flags that name encoders of one kind; together they are --encoders.
KINDS = ("text", "image", "joint")
COST_ONLY = "cost alone, not trained"
HEADING = (
    *("accuracy", "macro-F1 (95 % interval)", "AUROC", "minus best text (p)", "ms/pair"),
    *("peak MiB", "params", "train s"),
)


def add_parser(commands: Subparsers) -> None:
    """Add the command with its flags."""
    about = "compare every text encoder, image encoder and head"
    command = add_configured(commands, "matrix", about, run, ["features", "study"])
    for kind in KINDS:
        command.add_argument(f"--{kind}", metavar="NAMES", help=f"{kind} encoders")
    command.add_argument(
        "--cost-only", metavar="NAMES", default="", help="encoders to measure and not to train on"
    )


def run(parsed: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    workspace = workspace_of(parsed, _named_encoders(parsed))
    matrix(workspace, cost_only=parsed.cost_only.split())


def matrix(workspace: Workspace, *, cost_only: Sequence[str] = ()) -> list[MatrixRow]:
    """Every combination of the encoders and heads under the same folds and budget, row by row.

    Args:
        workspace: Its encoders are those that are combined, its study's heads join them.
        cost_only: Encoders of which only the cost is measured.
    """
    from pairfuse.fusion.heads import check_head
    from pairfuse.stats.bootstrap import draw_groups, in_words
    from pairfuse.stats.metrics import score
    from pairfuse.study.crossfit import FoldedTable
    from pairfuse.study.matrix import baseline_results, matrix_rows, models, run_models

    search, folder = workspace.search, workspace.folder
    heads = list(dict.fromkeys(search.heads))
    for head in heads:
        check_head(head)
    workspace.begin()
    table = workspace.table
    chosen = models(table.views, heads)
    say(f"matrix    {len(chosen)} models, {search.n_trials} trials each, rows as they finish")
    results: list[ModelResult] = []
    draws = draw_groups(table.groups, seed=search.seed)
    data = FoldedTable(table, workspace.prepared)
    own = run_models(chosen, data, search, folder / "matrix")
    for result in chain(own, baseline_results(data, seed=search.seed)):
        results.append(result)
        found = score(table.targets, result.probabilities, table.labels, draws)
        say(f"          {result.model.name:<44}macro-F1 {in_words(found.macro_f1)}")
    lines = matrix_rows(results, table, workspace.encoder_costs(), draws, seed=search.seed)
    extra = _costs_alone(workspace, cost_only)
    _write_matrix(folder / "matrix.csv", lines, extra)
    _plot(folder / "matrix.png", lines)
    say()
    for text in matrix_lines(lines, extra):
        say(text)
    say(f"wrote {folder / 'matrix.csv'} and {folder / 'matrix.png'}")
    return lines


def matrix_lines(lines: Sequence[MatrixRow], extra: Sequence[ArmCost]) -> list[str]:
    """The table in words, the best first; each model's numbers are below its name."""
    from pairfuse.stats.bootstrap import in_words

    names, cells = [], []
    for line in sorted(lines, key=lambda line: -line.scores.macro_f1.value):
        scores, against = line.scores, ""
        if line.against is not None:
            against = f"{line.against.difference.value:+z.3f} ({line.against.p_holm:.3f})"
        names.append(_named(line.model.name, line.cost))
        cells.append(
            (
                f"{scores.accuracy.value:.3f}",
                in_words(scores.macro_f1),
                f"{scores.auroc.value:.3f}",
                against,
                *_cost_words(line.cost),
            )
        )
    names += [_named(cost.name, cost) for cost in extra]
    cells += [("", COST_ONLY, "", "", *_cost_words(cost)) for cost in extra]
    head, *numbers = columns([HEADING, *cells], right={0, 2, 4, 5, 6, 7})
    below = zip(names, numbers, strict=True)
    return [f"  {head}", *(each for name, row in below for each in (*wrapped(name), f"  {row}"))]


def _named(name: str, cost: ArmCost) -> str:
    """A model, with why its cost is not known."""
    return f"{name}: {cost.note}" if cost.note else name


def _cost_words(cost: ArmCost) -> tuple[str, str, str, str]:
    if cost.encode_ms is None or cost.peak_mib is None or cost.encoder_parameters is None:
        return ("-", "-", "-", "-")
    return (
        f"{cost.encode_ms:.2f}",
        f"{cost.peak_mib:.0f}",
        f"{(cost.encoder_parameters + cost.parameters) / 1e6:.1f} M",
        f"{cost.train_seconds:.1f}" if cost.train_seconds else "-",
    )


def _named_encoders(parsed: argparse.Namespace) -> dict[str, Any]:
    """The encoders of all kinds, if any is named; a folder or hub id is marked with its kind."""
    from pairfuse.encoders import ENCODERS

    names = [
        name if name in ENCODERS or "=" in name else f"{kind}={name}"
        for kind in KINDS
        for name in (getattr(parsed, kind) or "").split()
    ]
    return {"features.encoders": names} if names else {}


def _costs_alone(workspace: Workspace, names: Sequence[str]) -> list[ArmCost]:
    """What encoders cost that take no part otherwise; random weights will do."""
    if not names:
        return []
    from pairfuse.encoders import build_encoders
    from pairfuse.study.cost import ArmParts, arm_costs

    features = workspace.config.features
    encoders = build_encoders(
        names,
        pooling=features.pooling,
        max_length=features.max_length,
        precision=features.precision,
        truncation=features.truncation,
        device=features.device,
    )
    return arm_costs(
        [
            ArmParts(name=each.name, views=(each.name,), parameters=0, train_seconds=0.0)
            for each in encoders
        ],
        workspace.encoder_costs(encoders),
        {each.name: 4 * each.dim * len(workspace.table.targets) for each in encoders},
    )


def _write_matrix(path: Path, lines: Sequence[MatrixRow], extra: Sequence[ArmCost]) -> None:
    from pairfuse.files import write_csv

    write_csv(
        path,
        (
            *("model", "views", "head", "accuracy", "macro_f1", "macro_f1_low", "macro_f1_high"),
            *("auroc", "difference", "difference_low", "difference_high", "permutation_p"),
            *("holm_p", "encode_ms", "peak_mib", "encoder_parameters", "head_parameters"),
            *("gflops", "train_seconds", "note"),
        ),
        [
            *(_line_cells(line) for line in lines),
            *((c.name, c.name, "", *("",) * 10, *_cost_cells(c, COST_ONLY)) for c in extra),
        ],
    )


def _line_cells(line: MatrixRow) -> tuple[object, ...]:
    model = line.model
    named = model.name, " ".join(model.views), model.head
    return (*named, *_score_cells(line), *_cost_cells(line.cost))


def _score_cells(line: MatrixRow) -> tuple[str, ...]:
    scores, against = line.scores, line.against
    values = [scores.accuracy.value, scores.macro_f1.value, scores.macro_f1.low]
    values += [scores.macro_f1.high, scores.auroc.value]
    cells = tuple(f"{value:.4f}" for value in values)
    if against is None:
        return cells + ("",) * 5
    gap = against.difference
    found = (gap.value, gap.low, gap.high, against.p_permutation, against.p_holm)
    return cells + tuple(f"{value:.4f}" for value in found)


def _cost_cells(cost: ArmCost, note: str = "") -> tuple[object, ...]:
    return (
        *(cost.encode_ms, cost.peak_mib, cost.encoder_parameters, cost.parameters),
        *(cost.gflops, round(cost.train_seconds, 2), cost.note or note),
    )


def _plot(path: Path, lines: Sequence[MatrixRow]) -> None:
    from pairfuse.report.canvas import save_png
    from pairfuse.report.figures import plot_costs

    named = [
        (line.model.name, line.cost.encode_ms, line.scores.macro_f1.value)
        for line in lines
        if line.cost.encode_ms
    ]
    if named:
        title = "Macro-F1 against encoding time"
        save_png(plot_costs("matrix", title, named, width=800, letters=60), path)
