"""The same training and measurements on a GPU, within float32 rounding of the CPU's."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from samples import architectures, copper_frame, ethanol_dataset, ethanol_frames, small_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T, Accuracy
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE, TimeToFailure
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LossEntropy
from mlip_sweep.models.compiled import compile_potential
from mlip_sweep.models.targets import residuals
from mlip_sweep.training.averaging import StochasticAverage
from mlip_sweep.training.fit import Recipe, accelerator, fit
from mlip_sweep.training.loss import MeanSquares, weighted_loss

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


@needs_gpu
@pytest.mark.parametrize("architecture", architectures())
def test_training_agrees(architecture, tmp_path):
    dataset = ethanol_dataset()
    loss = weighted_loss({"energy": 1.0, "forces": 1000.0})
    base = TrainerSettings(max_epochs=4, batch_size=2, progress=False)
    scores = {}
    for device in ("cpu", "gpu"):
        model = small_model(architecture, dataset)
        graphs = graphs_of(dataset.train, model.cutoff)
        recipe = Recipe(partial(torch.optim.Adam, lr=0.01), loss, loss, averaging=StochasticAverage(0.5, None))
        settings = replace(base, accelerator=device)
        scores[device] = fit(model, graphs, graphs, recipe, settings, seed=0, folder=tmp_path / device).validation_loss
    assert scores["gpu"] == pytest.approx(scores["cpu"], rel=1e-3)


@needs_gpu
@pytest.mark.parametrize("architecture", architectures())
def test_compiled_kernels_agree(architecture):
    dataset = ethanol_dataset()
    model, eager = (small_model(architecture, dataset).to("cuda") for _ in range(2))
    batch = collate(graphs_of(dataset.train, model.cutoff)).to("cuda")
    compile_potential(model, batch, training=True)
    torch.testing.assert_close(model(batch).forces, eager(batch).forces, rtol=1e-6, atol=1e-8)


@needs_gpu
@pytest.mark.parametrize("architecture", architectures())
def test_measurements_agree(architecture):
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset)
    measures = {
        LOSS_ENTROPY: LossEntropy(directions=2, points=5, plane_points=0, progress=False),
        RMSE_FORCES_HIGH_T: Accuracy(),
        TIME_TO_FAILURE: TimeToFailure(replicas=2, duration_ps=0.005, progress=False),
    }
    on_cpu = {name: measure(model, dataset).metrics[name] for name, measure in measures.items()}
    model.to("cuda")
    on_gpu = {name: measure(model, dataset).metrics[name] for name, measure in measures.items()}
    np.testing.assert_allclose(list(on_gpu.values()), list(on_cpu.values()), rtol=1e-4)


class OneDevice(TorchDispatchMode):
    """Refuses operations that mix tensors of another device with the CPU's, as CUDA would; scalars may come from it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [x for x in tree_flatten((args, kwargs or {}))[0] if isinstance(x, torch.Tensor)]
        elsewhere = {t.device.type for t in tensors} - {"cpu"}
        assert not elsewhere or all(t.device.type != "cpu" or t.dim() == 0 for t in tensors), f"{func} mixes devices"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("architecture", architectures())
def test_a_training_step_leaves_nothing_on_the_cpu(architecture, periodic):
    """On torch's meta device, which has shapes and places but no numbers, and so needs no GPU."""
    frames = [copper_frame()] if periodic else ethanol_frames(3)
    model = small_model(architecture, Dataset("frames", frames, frames, {}, frames), dtype="float32").to("meta")
    batch = collate(graphs_of(frames, model.cutoff)).to("meta")
    with OneDevice():
        sums = MeanSquares()
        sums.add(residuals(model, batch))
        weighted_loss({"energy": 1.0, "forces": 1000.0})(residuals(model.train(), batch)).backward()
    assert sums.values["energy"].device.type == "meta"
    assert any(p.grad is not None for p in model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"trainer\.accelerator=gpu.*trainer=cpu"):
        accelerator("gpu")
    assert accelerator("auto") == "cpu"
