"""A measurement as CONTRIBUTING tells a user to add one: this file, and an entry in the config."""

from typing import Annotated

import numpy as np
from ase.geometry import get_distances
from pydantic import Field

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.errors import SettingError
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.metrics import Column, Metric
from mlip_sweep.models.interface import Potential
from mlip_sweep.settings import settings


@settings
class ForceOnLongestPair(Measurement):
    """Largest force on the two atoms of a frame that are furthest apart.

    Args:
        split: whose first frame is looked at.
        power: of the force.
    """

    split: str = "train"
    power: Annotated[float, Field(gt=0, le=2)] = 1.0

    metrics = (Metric("force_on_longest_pair_eV_A", "eV/Å", better="higher", column=Column("longest\neV/Å", "{:.4f}")),)

    def check(self, dataset: Dataset) -> None:
        if len(dataset.frames(self.split)[0]) < 2:
            raise SettingError(f"split={self.split}: its first frame has one atom; choose another")

    def __call__(self, model: Potential, dataset: Dataset) -> Report:
        positions = dataset.frames(self.split)[0].positions
        distances = get_distances(positions)[1]
        pair = np.unravel_index(distances.argmax(), distances.shape)
        forces = model(dataset.graphs(self.split, model.cutoff)[0]).forces[list(pair)]
        return Report(metrics={self.metrics[0].name: forces.norm(dim=1).max().item() ** self.power})
