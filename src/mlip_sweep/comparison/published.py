"""The numbers of Vita & Schwalbe-Koda (2023), read from the folder of their tables that a user has.

doi:10.1088/2632-2153/acf115; tables from the repository jvita/data_efficiency_in_IAPS (CC BY 4.0).
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mlip_sweep.comparison.statistics import Correlation, correlation, learning_slope
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.entropy import EntropySettings, combined_entropy, landscape_entropy

LEARNING_SIZES = (25, 125, 250, 500)  # the point at 5 structures is left out of the slopes
REPOSITORY = "https://github.com/jvita/data_efficiency_in_IAPS"


@dataclass(frozen=True)
class PublishedNequip:
    """The published tables of the 13 NequIP models.

    Attributes:
        landscapes: model, x (norm of the parameters), e (eV/atom), f (eV/Å); mean curves.
        entropy: indexed by model; S, Se, Sf, explosion_mean (fs), e (eV/atom), f (eV/Å) and more.
        learning: model, n (structures), e (eV/atom), f (eV/Å).
        explosion: model, explosion (first failing step of 1 fs; 6001 where the replica survived).
    """

    landscapes: pd.DataFrame
    entropy: pd.DataFrame
    learning: pd.DataFrame
    explosion: pd.DataFrame

    def recomputed(self) -> pd.DataFrame:
        """One row a model, from the raw tables by this project's own functions.

        Columns: entropy_energy, entropy_forces, entropy (nat), time_to_failure_ps (survivors count as 6.001),
        forces_rmse (eV/Å, as published), learning_slope.
        """
        settings = EntropySettings()
        rows = {}
        for model, curve in self.landscapes.groupby("model"):
            curve = curve.sort_values("x")
            energy = float(landscape_entropy(curve["e"].to_numpy(), settings.temperature_energy))
            forces = float(landscape_entropy(curve["f"].to_numpy(), settings.temperature_forces))
            learning = self.learning[(self.learning["model"] == model) & self.learning["n"].isin(LEARNING_SIZES)]
            rows[model] = {
                "entropy_energy": energy,
                "entropy_forces": forces,
                "entropy": combined_entropy(energy, forces, settings.alpha),
                "time_to_failure_ps": self.explosion.loc[self.explosion["model"] == model, "explosion"].mean() / 1000,
                "forces_rmse": self.entropy["f"].get(model, float("nan")),
                "learning_slope": learning_slope(learning["n"].to_numpy(), learning["f"].to_numpy()),
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def correlations(self) -> dict[tuple[str, str], Correlation]:
        """The three correlations that the paper's claims rest on, by the names of the columns of `recomputed`."""
        table = self.recomputed()
        pairs = (
            ("entropy", "time_to_failure_ps"),
            ("forces_rmse", "time_to_failure_ps"),
            ("entropy", "learning_slope"),
        )
        return {(x, y): correlation(table[x], table[y]) for x, y in pairs}


def read_published(folder: Path | str) -> PublishedNequip:
    """Read the tables from a folder such as `data/vita2023`.

    Raises:
        InputError: a table is missing.
    """

    def table(name: str, index: int | None = 0) -> pd.DataFrame:
        path = Path(folder) / name
        if not path.is_file():
            raise InputError(f"{path}: no such table; copy the paper's tables from {REPOSITORY} into that folder")
        return pd.read_csv(path, index_col=index)

    return PublishedNequip(
        landscapes=table("nequip_losslands.csv"),
        entropy=table("nequip_entropy.csv"),
        learning=table("nequip_learning.csv"),
        explosion=table("nequip_explosion.csv"),
    )
