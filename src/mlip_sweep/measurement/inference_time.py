"""What a potential costs in use: the time of one evaluation of energy and forces, per atom."""

import math
import time
from collections.abc import Sequence
from typing import Annotated, Final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from scipy.stats import bootstrap

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import GraphBatch, collate
from mlip_sweep.measurement.evaluation import device_of, evaluating, without_gradients
from mlip_sweep.measurement.interface import Measurement, Report
from mlip_sweep.metrics import Metric
from mlip_sweep.models.interface import Potential
from mlip_sweep.settings import settings
from mlip_sweep.training.cohort import alone

INFERENCE_TIME: Final = "inference_time_us_atom"  # energy and forces, neighbours given
INFERENCE_TIME_STDERR: Final = "inference_time_us_atom_stderr"


@settings
class InferenceTime(Measurement):
    """Time of energies and forces, µs per atom: the median over repeats, with its standard error.

    One batch of training frames, neighbours included, is evaluated again and again, on the model's device and with
    torch's current number of threads; where runs train together, by this model alone. Finding neighbours is not
    counted. The standard error is a bootstrap over the repeats; it says how steady this machine was, not how other
    machines compare.

    Args:
        max_atoms: of the batch, as in the other measurements; the frames come again until it is full.
        repeats: evaluations that are timed.
        warm_up: evaluations before, which may compile or allocate.
    """

    max_atoms: PositiveInt = 1024
    repeats: Annotated[int, Field(ge=3)] = 7
    warm_up: NonNegativeInt = 2

    metrics = (
        Metric(INFERENCE_TIME, "µs/atom", better="lower"),
        Metric(INFERENCE_TIME_STDERR, "µs/atom"),
    )

    def __call__(self, model: Potential, dataset: Dataset) -> Report:
        """Time a model, which is left as it was found."""
        batch = full_batch(dataset.graphs("train", model.cutoff), self.max_atoms).to(device_of(model))
        atoms = len(batch.positions)
        with evaluating(model), without_gradients(model), alone(model):
            seconds = [_seconds(model, batch) for _ in range(self.warm_up + self.repeats)][self.warm_up :]
        times: NDArray[np.float64] = 1e6 * np.array(seconds) / atoms
        resampled = bootstrap((times,), np.median, n_resamples=1000, method="percentile", rng=0)
        return Report(
            metrics={
                INFERENCE_TIME: float(np.median(times)),
                INFERENCE_TIME_STDERR: float(resampled.standard_error),
            },
            arrays={"time_us_atom": times, "atoms": np.array(atoms)},
        )


def full_batch(graphs: Sequence[GraphBatch], max_atoms: int) -> GraphBatch:
    """As many graphs, in order and then again from the first, as fit into `max_atoms`; at least one."""
    graphs = list(graphs[:max_atoms])  # more would not fit, at one atom each
    copies = math.ceil(max_atoms / sum(len(graph.positions) for graph in graphs))
    ends = np.cumsum([len(graph.positions) for graph in graphs * copies])
    fitting = int(np.searchsorted(ends, max_atoms, side="right"))
    return collate((graphs * copies)[: max(fitting, 1)])


def _seconds(model: Potential, batch: GraphBatch) -> float:
    """Of one evaluation; a GPU is waited for on either side, since it works on after a call returns."""
    _wait(batch.positions.device)
    start = time.perf_counter()
    model(batch)
    _wait(batch.positions.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
