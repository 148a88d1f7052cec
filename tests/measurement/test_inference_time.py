"""The clock is asked as often as told, of the batch that is told; how long it took is not tested."""

from itertools import product

import numpy as np
import pytest
import torch
from samples import copper_frame, ethanol_frames
from toys import LennardJones, dataset_of

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.errors import InputError
from mlip_sweep.measurement import inference_time as module
from mlip_sweep.measurement.inference_time import INFERENCE_TIME, INFERENCE_TIME_STDERR, InferenceTime, full_batch


class Counted(LennardJones):
    """Notes of every evaluation its number of atoms, its mode, and whether its parameter asked for a gradient."""

    def __init__(self) -> None:
        super().__init__(sigma=1.0, epsilon=0.2, cutoff=4.0, onset=3.0)
        self.trained, self.fixed = (torch.nn.Parameter(torch.ones(1), requires_grad=wanted) for wanted in (True, False))
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, batch):
        self.seen.append((len(batch.positions), self.training, self.trained.requires_grad))
        return super().forward(batch)


def test_times_every_repeat_in_use_mode_and_leaves_the_model_as_found():
    model = Counted().train()
    model.rescaling.eval()
    report = InferenceTime(max_atoms=50, repeats=5, warm_up=2)(model, dataset_of(ethanol_frames(2)))
    assert model.seen == [(45, False, False)] * 7  # five molecules of nine atoms
    assert model.training and not model.rescaling.training
    assert model.trained.requires_grad and not model.fixed.requires_grad
    times = report.arrays["time_us_atom"]
    assert times.shape == (5,) and (times > 0).all()
    assert report.metrics[INFERENCE_TIME] == np.median(times)
    assert report.metrics[INFERENCE_TIME_STDERR] >= 0


def test_time_is_per_atom_and_its_error_follows_the_spread(monkeypatch):
    seconds = iter([9.0, 9.0, 0.018, 0.009, 0.036, 0.027, 0.045])  # two of warm-up, then 1 … 5 ms an atom
    monkeypatch.setattr(module, "_seconds", lambda model, batch: next(seconds))
    report = InferenceTime(max_atoms=9, repeats=5, warm_up=2)(Counted(), dataset_of(ethanol_frames(1)))
    assert report.metrics[INFERENCE_TIME] == pytest.approx(3000.0)
    # The median of five draws, with replacement, of five numbers: all 5⁵ of them.
    medians = np.median(list(product([1000.0, 2000.0, 3000.0, 4000.0, 5000.0], repeat=5)), axis=1)
    assert report.metrics[INFERENCE_TIME_STDERR] == pytest.approx(medians.std(), rel=0.1)


def test_an_error_leaves_the_model_as_found():
    class Broken(Counted):
        def atomic_energies(self, batch):
            raise RuntimeError

    model = Broken().train()
    with pytest.raises(RuntimeError):
        InferenceTime()(model, dataset_of(ethanol_frames(1)))
    assert model.training and model.trained.requires_grad


@pytest.mark.parametrize(("max_atoms", "systems"), [(1, 1), (9, 1), (12, 1), (13, 2), (26, 4), (38, 5), (39, 6)])
def test_the_batch_is_filled_in_order(max_atoms, systems):
    frames = [ethanol_frames(1)[0], copper_frame()]  # 9 and 4 atoms
    batch = full_batch(graphs_of(frames, 4.0), max_atoms)
    assert batch.n_systems == systems
    assert batch.atoms_per_system.tolist() == np.resize([9, 4], systems).tolist()


@pytest.mark.parametrize("wrong", [{"repeats": 2}, {"warm_up": -1}])
def test_bad_settings_are_refused_before_a_training(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"{name}={value}: give a number greater than or equal to"):
        InferenceTime(**wrong)
