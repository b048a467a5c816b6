"""Comparing: the stages that put models side by side: `matrix`, and `compare` for finished runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pairfuse.commands.run_folder import find_predictions
from pairfuse.commands.workspace import Workspace
from pairfuse.console import say
from pairfuse.encoders import build_encoders
from pairfuse.files import write_csv
from pairfuse.report.canvas import save_png
from pairfuse.report.figures import plot_costs
from pairfuse.stats.bootstrap import draw_groups, in_words
from pairfuse.stats.compare import compare_predictions
from pairfuse.stats.metrics import score
from pairfuse.stats.predictions import load_predictions
from pairfuse.study.cost import ArmCost, ArmParts, arm_costs
from pairfuse.study.crossfit import FoldedTable
from pairfuse.study.matrix import (
    MatrixRow,
    ModelResult,
    matrix_rows,
    models,
    order_heads,
    run_models,
)
from pairfuse.study.tuning import build_search

COST_ONLY = "cost alone, not trained"


def matrix_stage(workspace: Workspace, *, cost_only: Sequence[str]) -> list[MatrixRow]:
    """Every combination of the encoders and heads under the same folds and budget, row by row.

    Args:
        workspace: Its encoders are those that are combined, its study's heads join them.
        cost_only: Encoders of which only the cost is measured.
    """
    study = workspace.config.study
    search = build_search(workspace.config, device=workspace.device)
    heads = order_heads(search.heads)
    workspace.begin()
    table = workspace.table
    chosen = models(table.views, heads)
    say(f"matrix    {len(chosen)} models, {study.n_trials} trials each, rows as they finish")
    results: list[ModelResult] = []
    draws = draw_groups(table.groups, seed=study.seed)
    data = FoldedTable(table, workspace.prepared)
    for result in run_models(chosen, data, search, workspace.folder / "matrix"):
        results.append(result)
        found = score(table.targets, result.probabilities, table.labels, draws)
        say(f"          {result.model.name:<44}macro-F1 {in_words(found.macro_f1)}")
    lines = matrix_rows(results, table, workspace.encoder_costs(), draws, seed=study.seed)
    extra = _costs_alone(workspace, cost_only)
    _write_matrix(workspace.folder / "matrix.csv", lines, extra)
    _plot(workspace.folder / "matrix.png", lines)
    for text in matrix_lines(lines, extra):
        say(text)
    say(f"wrote {workspace.folder / 'matrix.csv'} and {workspace.folder / 'matrix.png'}")
    return lines


def compare_stage(first: str, second: str, *, truth: Path | None, cache: str) -> None:
    """Two runs, or two files of predictions by any program, tested in pairs."""
    named = [
        replace(load_predictions(find_predictions(Path(cache), name), truth), name=name)
        for name in (first, second)
    ]
    say(str(compare_predictions(*named, seed=0)))


def matrix_lines(lines: Sequence[MatrixRow], extra: Sequence[ArmCost]) -> list[str]:
    """The table in words, the best first."""
    ranked = sorted(lines, key=lambda line: -line.scores.macro_f1.value)
    width = 2 + max(len(name) for name in [x.model.name for x in lines] + [c.name for c in extra])
    out = [
        f"\n{'model':<{width}}{'accuracy':>9}  {'macro-F1 (95 % interval)':<26}{'AUROC':>6}  "
        f"{'less best text (p)':<26}{'ms':>8}{'MiB':>7}{'params':>10}{'train s':>9}"
    ]
    for line in ranked:
        against = ""
        if line.against is not None:
            gap = line.against.difference
            against = f"{gap.value:+.3f} ({line.against.p_holm:.3f})"
        out.append(
            f"{line.model.name:<{width}}{line.scores.accuracy.value:>9.3f}  "
            f"{in_words(line.scores.macro_f1):<26}{line.scores.auroc.value:>6.3f}  {against:<26}"
            f"{_cost_words(line.cost)}"
        )
    out += [f"{cost.name:<{width}}{COST_ONLY:>71}  {_cost_words(cost)}" for cost in extra]
    return out


def _cost_words(cost: ArmCost) -> str:
    if cost.encode_ms is None or cost.peak_mib is None or cost.encoder_parameters is None:
        return f"   {cost.note}"
    millions = f"{(cost.encoder_parameters + cost.parameters) / 1e6:.1f}M"
    seconds = f"{cost.train_seconds:.1f}" if cost.train_seconds else "-"
    return f"{cost.encode_ms:>8.2f}{cost.peak_mib:>7.0f}{millions:>10}{seconds:>9}"


def _costs_alone(workspace: Workspace, names: Sequence[str]) -> list[ArmCost]:
    """What encoders cost that take no part otherwise; random weights will do."""
    if not names:
        return []
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
        [ArmParts(encoder.name, (encoder.name,), 0, 0.0) for encoder in encoders],
        workspace.encoder_costs(encoders),
        {e.name: 4 * e.dim * len(workspace.table.targets) for e in encoders},
    )


def _write_matrix(path: Path, lines: Sequence[MatrixRow], extra: Sequence[ArmCost]) -> None:
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
    named = [
        (line.model.name, line.cost.encode_ms, line.scores.macro_f1.value)
        for line in lines
        if line.cost.encode_ms
    ]
    if named:
        title = "Macro-F1 against encoding time"
        save_png(plot_costs("matrix", title, named, width=800, letters=60), path)
