"""What a potential costs in use: the time of one evaluation of energy and forces, per atom."""

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import bootstrap

from mlip_sweep import keys
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.frames import Dataset, Frame
from mlip_sweep.data.graphs import GraphBatch, collate
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.evaluation import device_of, evaluating, frozen
from mlip_sweep.measurement.interface import Report, checked_by
from mlip_sweep.models.interface import Potential


def check_settings(dataset: Dataset, *, repeats: int = 7, warm_up: int = 2, **_: object) -> None:
    """Refuse settings that cannot work; arguments as `inference_time`.

    Raises:
        InputError: naming the setting.
    """
    if repeats < 3 or warm_up < 0:
        raise InputError(
            f"measurement.inference_time: repeats={repeats}, warm_up={warm_up}; give at least 3 repeats, and a warm-up "
            "that is not negative"
        )


@checked_by(check_settings)
def inference_time(
    model: Potential, dataset: Dataset, *, max_atoms: int = 1024, repeats: int = 7, warm_up: int = 2
) -> Report:
    """Time of energies and forces, µs per atom: the median over repeats, with its standard error.

    One batch of training frames, neighbours included, is evaluated again and again, on the model's device and with
    torch's current number of threads. Finding neighbours is not counted. The standard error is a bootstrap over the
    repeats; it says how steady this machine was, not how other machines compare.

    Args:
        model: left as it was found.
        dataset: its training frames are the structures that are evaluated.
        max_atoms: of the batch, as in the other measurements; the frames come again until it is full.
        repeats: evaluations that are timed.
        warm_up: evaluations before, which may compile or allocate.

    Raises:
        InputError: a setting is out of range.
    """
    check_settings(dataset, repeats=repeats, warm_up=warm_up)
    batch = full_batch(dataset.train, model.cutoff, max_atoms).to(device_of(model))
    atoms = len(batch.positions)
    with evaluating(model), frozen(model):
        seconds = [_seconds(model, batch) for _ in range(warm_up + repeats)][warm_up:]
    times: NDArray[np.float64] = 1e6 * np.array(seconds) / atoms
    resampled = bootstrap((times,), np.median, n_resamples=1000, method="percentile", rng=0)
    return Report(
        metrics={
            keys.INFERENCE_TIME: float(np.median(times)),
            keys.INFERENCE_TIME_STDERR: float(resampled.standard_error),
        },
        arrays={"time_us_atom": times, "atoms": np.array(atoms)},
    )


def full_batch(frames: Sequence[Frame], cutoff: float, max_atoms: int) -> GraphBatch:
    """As many frames, in order and then again from the first, as fit into `max_atoms`; at least one."""
    graphs = graphs_of(frames[:max_atoms], cutoff)  # more would not fit, at one atom each
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
