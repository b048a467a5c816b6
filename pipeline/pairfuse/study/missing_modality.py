"""Missing-modality robustness: what a model of both is worth if one is missing at test time.

Nothing is trained: members that held a row out predict it once more with one modality missing, by
its learnt stand-in. If the score stays, the model makes no use of the modality; if it falls to
chance, the model depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pairfuse.arrays import Floats
from pairfuse.data.pairs import Modality
from pairfuse.features.views import Views
from pairfuse.fusion.ensemble import Ensemble, Prepared, vote
from pairfuse.fusion.final_estimator import FinalEstimator
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import Scores, score
from pairfuse.study.crossfit import Table
from pairfuse.study.folds import fold_members, outer_folds

#: Names the row of the table in which no modality is missing.
NOTHING = "nothing"


def missing_modality_scores(
    table: Table,
    ensemble: Ensemble,
    prepared: Sequence[Prepared],
    draws: Draws,
    *,
    final_estimators: Sequence[FinalEstimator] = (),
) -> dict[str, Scores]:
    """Scores with nothing missing, then with each modality missing, on the same draws of rows.

    Args:
        table: All rows; the ensemble's views are among its own.
        ensemble: Member k was trained on row set `k % len(prepared)`.
        prepared: Row sets.
        draws: Bootstrap draws of the table's groups.
        final_estimators: Of each fold, where the recipes are stacked.
    """
    kinds = sorted({ensemble.modality[view] for view in ensemble.dims})
    given = {NOTHING: table.views}
    for kind in kinds:
        given[kind] = without(table.views, kind)
    return {
        name: score(
            table.targets,
            held_out(views, ensemble, prepared, final_estimators),
            table.labels,
            draws,
        )
        for name, views in given.items()
    }


def without(views: Views, modality: Modality) -> Views:
    """The same rows with every view of one modality missing."""
    features, present = dict(views.features), dict(views.present)
    for view in views.of(modality):
        features[view] = np.zeros_like(features[view])
        present[view] = np.zeros_like(present[view])
    return replace(views, features=features, present=present)


def held_out(
    views: Views,
    ensemble: Ensemble,
    prepared: Sequence[Prepared],
    final_estimators: Sequence[FinalEstimator] = (),
) -> Floats:
    """Vote of the members that held a row out, (R, N, C); the prior for rows without any view."""
    repeats = 1 + max(part.rows.repeat for part in prepared)
    out = np.zeros((repeats, len(views), len(ensemble.labels)), dtype=np.float32)
    for number, fold in enumerate(outer_folds(prepared)):
        out[fold.repeat, fold.held] = vote(
            fold_members(ensemble, fold, len(prepared)),
            views.rows(fold.held),
            prior=ensemble.prior,
            final_estimator=final_estimators[number]
            if final_estimators
            else ensemble.final_estimator,
        )
    lost = ~np.any([views.present[view] for view in ensemble.dims], axis=0)
    out[:, lost] = ensemble.prior
    return out
