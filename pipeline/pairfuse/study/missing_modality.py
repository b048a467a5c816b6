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
from pairfuse.fusion.fitting import ScaledRowSet
from pairfuse.stats.bootstrap import Draws
from pairfuse.stats.metrics import Scores, score
from pairfuse.study.crossfit import CrossFit, Table
from pairfuse.study.folds import count_repeats, outer_folds

#: Names the row of the table in which no modality is missing.
NOTHING = "nothing"


def missing_modality_scores(
    table: Table, fit: CrossFit, prepared: Sequence[ScaledRowSet], draws: Draws
) -> dict[str, Scores]:
    """Scores with nothing missing, then with each modality missing, on the same draws of rows.

    Args:
        table: All rows; the fit's views are among its own.
        fit: Models of all folds.
        prepared: Row sets of these folds.
        draws: Bootstrap draws of the table's groups.
    """
    ensembles = (fit.ensemble, *fit.folds)
    kinds = {each.modality[view] for each in ensembles for view in each.dims}
    if any(each.reads_texts for each in ensembles):
        kinds.add("text")
    given = {NOTHING: table.views} | {kind: without(table.views, kind) for kind in sorted(kinds)}
    return {
        name: score(table.targets, held_out(views, fit, prepared), table.labels, draws)
        for name, views in given.items()
    }


def without(views: Views, modality: Modality) -> Views:
    """The same rows with every view of one modality missing, and with the text its raw texts."""
    features, present = dict(views.features), dict(views.present)
    for view in views.of(modality):
        features[view] = np.zeros_like(features[view])
        present[view] = np.zeros_like(present[view])
    texts = views.texts
    if texts is not None and modality == "text":
        texts = texts.blank()
    return replace(views, features=features, present=present, texts=texts)


def held_out(views: Views, fit: CrossFit, prepared: Sequence[ScaledRowSet]) -> Floats:
    """What the models that held a row out say of it, (R, N, C)."""
    shape = count_repeats(prepared), len(views), len(fit.ensemble.labels)
    out = np.zeros(shape, dtype=np.float32)
    for fold, ensemble in zip(outer_folds(prepared), fit.folds, strict=True):
        out[fold.repeat, fold.held_out] = ensemble.predict_proba(views.rows(fold.held_out))
    return out
