"""The control of a stability measurement: the reference method itself goes through the same protocol."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from mlip_sweep.data.cache import cached
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.calculator_model import CalculatorModel
from mlip_sweep.measurement.dynamics.failure import SURVIVED
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, simulate, starting_geometry

FORMAT = 2  # of the kept file, and of the engine: raise it whenever either changes what is in it


@dataclass(frozen=True)
class Control:
    """What became of the reference's R replicas: time (R,) ps of failure or end, and the reason, "" for survivors."""

    time_ps: NDArray[np.float64]
    reason: list[str]

    @property
    def survival_fraction(self) -> float:
        """Share of replicas that survived."""
        return sum(reason == SURVIVED for reason in self.reason) / len(self.reason)


def reference_control(
    dataset: Dataset, protocol: MDProtocol, replicas: int, *, cache: Path, progress: bool = True
) -> Control:
    """Run the reference method through a protocol, or read from `cache` what it did before.

    The cache's key is a checksum of all that determines the result: starting geometry, reference, versions, settings.

    Args:
        dataset: its `reference` must be at hand.
        protocol: of the model's measurement; only the number of replicas is changed.
        replicas: how many; the first ones of the model's, with the same velocities.
        cache: folder.
        progress: show a progress bar.

    Raises:
        InputError: the data set does not say how its labels are made, or the method is not installed.
    """
    from mlip_sweep.data.reference import one_thread, reference_calculator, reference_recipe

    if dataset.reference is None:
        raise InputError(
            f"measurement.stability.control_replicas={replicas}: dataset {dataset.name} does not say how to make "
            "its labels again; set it to 0"
        )
    reference, start = dataset.reference, starting_geometry(dataset)
    protocol = replace(protocol, replicas=replicas)
    determined_by = {
        "format": FORMAT,
        "protocol": asdict(protocol),
        **reference_recipe(reference, start),
    }

    def make(unfinished: Path) -> None:
        with one_thread(reference):
            label = f"control: {reference['method']}"
            control = run_control(reference_calculator(reference), start, protocol, progress=progress, label=label)
        kept = {"time_ps": control.time_ps.tolist(), "reason": control.reason, "determined_by": determined_by}
        unfinished.write_text(json.dumps(kept))

    path = cached(Path(cache) / "md_control", dataset.name, ".json", determined_by, make)
    kept = json.loads(path.read_text())
    return Control(np.array(kept["time_ps"]), kept["reason"])


def run_control(
    calculator: Calculator, start: Frame, protocol: MDProtocol, *, progress: bool = True, label: str = "control"
) -> Control:
    """Run any ASE calculator through a protocol."""
    model = CalculatorModel(calculator, pbc=start.pbc.tolist())
    trajectories = simulate(model, start, protocol, progress=progress, label=label)
    return Control(trajectories.last_time_ps(protocol.timestep_fs), trajectories.reason)
