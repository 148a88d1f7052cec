"""The numbers of Vita & Schwalbe-Koda (2023) beside one's own runs of the same models.

Mach. Learn.: Sci. Technol. 4 (2023) 035031, doi:10.1088/2632-2153/acf115, CC BY 4.0. `published_models.csv` holds what
follows from the tables of https://github.com/jvita/data_efficiency_in_IAPS by this project's own functions: loss
entropies (their equations 6 to 8), times to failure of 30 replicas at 1600 K (a survivor of 6 ps counts as 6.001), RMSE
on the test sets of 3BPA, and slopes of learning curves; `published_landscapes.csv` the landscapes themselves, rounded.
Every model was trained once.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pandas as pd
from omegaconf import OmegaConf

from mlip_sweep.comparison.choices import PUBLISHED
from mlip_sweep.comparison.curves import N_TRAIN, with_learning_slopes
from mlip_sweep.comparison.statistics import estimate
from mlip_sweep.comparison.verdict import HIGH_T, TIME, Choice, S, Verdict
from mlip_sweep.config import config_folder

TABLE: Final = Path(__file__).with_name("published_models.csv")
LANDSCAPES: Final = Path(__file__).with_name("published_landscapes.csv")
TIME_COLUMN: Final = "time_to_failure_ps"
SLOPE_COLUMN: Final = "learning_slope"


@cache
def published_models() -> pd.DataFrame:
    """One row a published model, indexed by its name in `conf/published`; read once, and not to be changed.

    Columns: published_name, S_E, S_F, S (nat), time_to_failure_ps (mean), time_q25_ps, time_median_ps, time_q75_ps,
    replicas, rmse_energy_meV_atom, rmse_forces_meV_A, learning_slope (of ln RMSE against ln n).
    """
    return pd.read_csv(TABLE, index_col="model")


def published_landscapes() -> pd.DataFrame:
    """Every second point of the published landscapes, means over directions: model, t, energy_eV_atom, forces_eV_A."""
    return pd.read_csv(LANDSCAPES)


def beside_published(found: Verdict) -> pd.DataFrame:
    """The published numbers and one's own means over seeds, one row a published model that was run.

    Columns: S, time_to_failure_ps and rmse_forces_meV_A, each with the suffixes _published, _mean and _stderr; seeds.
    Empty where none of the choices is a published model.
    """
    theirs = published_models()
    rows = []
    for choice, name in choices_of_paper(found.choices):
        row: dict[str, object] = {"model": name, "seeds": len(choice.seeds)}
        for column, measure in (("S", S), (TIME_COLUMN, TIME), ("rmse_forces_meV_A", HIGH_T)):
            known = choice.estimates[measure.metric]
            row |= {
                f"{column}_published": theirs.loc[name, column],
                f"{column}_mean": known.mean,
                f"{column}_stderr": known.stderr,
            }
        rows.append(row)
    if not rows:
        return pd.DataFrame()
    order = list(theirs.index)
    return pd.DataFrame(rows).sort_values("model", key=lambda names: names.map(order.index)).reset_index(drop=True)


def slopes_beside_published(found: Verdict) -> pd.DataFrame:
    """The published learning slopes and one's own, one row a published model that has a learning curve.

    Columns: model and seeds; S, rmse_forces_meV_A and learning_slope, each with the suffixes _mean and _stderr over the
    runs on the most frames, and learning_slope_published. Empty where there are none.
    """
    runs = with_learning_slopes(found)
    if runs.empty:
        return pd.DataFrame()
    measured = {"S": S.metric, "rmse_forces_meV_A": HIGH_T.metric, SLOPE_COLUMN: SLOPE_COLUMN}
    runs = runs.reindex(columns=[*runs.columns, *(name for name in measured.values() if name not in runs)])
    names = runs["params"].map(_published_name)
    rows = []
    for model, theirs in published_models().iterrows():
        own = runs[names == model]
        if own.empty:
            continue
        row: dict[str, object] = {"model": model, "seeds": own["seed"].nunique()}
        for column, metric in measured.items():
            known = estimate(own.groupby("seed")[metric].mean().dropna())
            row |= {f"{column}_mean": known.mean, f"{column}_stderr": known.stderr}
        rows.append({**row, f"{SLOPE_COLUMN}_published": theirs[SLOPE_COLUMN]})
    return pd.DataFrame(rows)


def choices_of_paper(choices: Sequence[Choice]) -> list[tuple[Choice, str]]:
    """The choices that are published models, with their names; of learning curves those on the most frames."""
    named = [(choice, _published_name(choice.runs["params"].iloc[0])) for choice in choices]
    frames = [pd.to_numeric(choice.runs["params"].iloc[0].get(N_TRAIN), errors="coerce") for choice, _ in named]
    most: dict[str, float] = {}
    for (_, name), n in zip(named, frames, strict=True):
        most[name] = max(most.get(name, n), n)
    return [
        (choice, name)
        for (choice, name), n in zip(named, frames, strict=True)
        if name and (n == most[name] or pd.isna(most[name]))
    ]


def _published_name(params: Mapping[str, str]) -> str:
    """The published model that a run is of; "" where it is none, or where something else was chosen on top."""
    name = str(params.get(PUBLISHED, ""))
    if name not in published_models().index:
        return ""
    return name if all(params.get(group, value) == value for group, value in chosen_by(name).items()) else ""


@cache
def chosen_by(name: str) -> Mapping[str, str]:
    """What a published model chooses of config groups, such as {"optimizer": "adam"}; not what depends on the scale."""
    config: Any = OmegaConf.to_container(OmegaConf.load(config_folder("conf") / PUBLISHED / f"{name}.yaml"))
    chosen: dict[str, str] = {}
    for entry in config.get("defaults", []):
        if isinstance(entry, str):
            chosen |= {} if entry == "_self_" else chosen_by(entry)
        else:
            chosen |= {str(key).removeprefix("override /"): str(value) for key, value in entry.items()}
    return {group: value for group, value in chosen.items() if "$" not in value}
