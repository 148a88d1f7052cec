"""The report's sections on claims, predictors and published numbers, as rows of text with numbers to sort by."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mlip_sweep.comparison.claims import Tested
from mlip_sweep.comparison.predictors import Prediction, predictions_table
from mlip_sweep.comparison.tables import DASH
from mlip_sweep.comparison.verdict import HIGH_T

Cell = tuple[str, str]
"""What a cell shows, and the number that it is sorted by."""

PUBLISHED_COLUMNS = (
    ("S", "S (nat)", "{:.2f}"),
    ("time_to_failure_ps", "time to failure (ps)", "{:.2f}"),
    ("rmse_forces_meV_A", "high-T forces RMSE (meV/Å)", "{:.0f}"),
)


def claims_rows(found: Sequence[Tested]) -> list[dict[str, Any]]:
    """One row a claim and measure."""
    return [
        {
            "claim": one.claim.words,
            "measure": "forces error, high T" if one.measure is HIGH_T else one.measure.words,
            "pairs": "; ".join(f"{a} → {b}" for a, b in one.pairs),
            "n_pairs": len(one.pairs),
            "seeds": one.effect.n,
            "benefit": _interval(one.effect.mean, one.effect.low, one.effect.high),
            "p": f"{one.effect.p:.2g}",
            "seed": f"{one.shares.seed:.0%}" if one.shares else DASH,
            "finding": one.finding,
        }
        for one in found
    ]


def predictors_rows(found: Sequence[Prediction]) -> list[dict[str, Any]]:
    """For each question its table, the best measure first."""
    table = predictions_table(found)
    if table.empty:
        return []
    return [
        {
            "name": f"{target}, {question}",
            "runs": rows["runs"].iloc[0],
            "strata": rows["strata"].iloc[0],
            "rows": [_predictor(dict(row)) for _, row in rows.iterrows()],
        }
        for (target, question), rows in table.groupby(["target", "question"], sort=False)
    ]


def published_rows(table: pd.DataFrame) -> dict[str, Any] | None:
    """Published beside own, as `published.beside_published` gives them; None for none."""
    if table.empty:
        return None
    headings, rows = [], []
    for _, words, _ in PUBLISHED_COLUMNS:
        headings += [f"{words}, published", f"{words}, here"]
    for _, row in table.iterrows():
        cells: list[Cell] = []
        for name, _, form in PUBLISHED_COLUMNS:
            theirs, ours, error = (row[f"{name}_{kind}"] for kind in ("published", "mean", "stderr"))
            cells += [_cell(form, theirs), _cell(form, ours, error)]
        rows.append({"model": row["model"], "cells": cells})
    return {"headings": headings, "rows": rows}


def _predictor(row: Mapping[str, Any]) -> dict[str, Any]:
    cells: list[Cell] = [
        (_interval(row["rank_correlation"], row["ci95_low"], row["ci95_high"]), sortable(row["rank_correlation"])),
        _cell("{:.2g}", row["p_worse_than_best"]),
        (
            _interval(row["partial_correlation"], row["partial_ci95_low"], row["partial_ci95_high"]),
            sortable(row["partial_correlation"]),
        ),
        _cell("{:.1f}", row["seconds"]),
    ]
    return {"measure": row["measure"], "cells": cells, "labels": row["needs_new_labels"]}


def _interval(value: float, low: float, high: float) -> str:
    if not np.isfinite(value):
        return DASH
    return f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def _cell(form: str, value: float, error: float = np.nan) -> Cell:
    if not np.isfinite(value):
        return DASH, ""
    return form.format(value) + (f" ± {form.format(error)}" if np.isfinite(error) else ""), sortable(value)


def sortable(value: float) -> str:
    """A number as a cell is sorted by it; nothing where it is not known."""
    return repr(float(value)) if np.isfinite(value) else ""
