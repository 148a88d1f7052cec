"""The same training and measurements on a GPU, within float32 rounding of the CPU's."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from samples import architectures, ethanol_dataset, small_model

from mlip_sweep import keys
from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import accuracy
from mlip_sweep.measurement.loss_entropy import loss_entropy
from mlip_sweep.measurement.stability import time_to_failure
from mlip_sweep.training.averaging import StochasticAverage
from mlip_sweep.training.fit import Recipe, accelerator, fit
from mlip_sweep.training.loss import LossWeights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")


@needs_gpu
@pytest.mark.parametrize("architecture", architectures())
def test_training_agrees(architecture, tmp_path):
    dataset = ethanol_dataset()
    weights = LossWeights(1.0, 1000.0)
    base = TrainerSettings(max_epochs=4, batch_size=2, progress=False)
    scores = {}
    for device in ("cpu", "gpu"):
        model = small_model(architecture, dataset)
        graphs = graphs_of(dataset.train, model.cutoff)
        recipe = Recipe(partial(torch.optim.Adam, lr=0.01), weights, weights, averaging=StochasticAverage(0.5, None))
        settings = replace(base, accelerator=device)
        scores[device] = fit(model, graphs, graphs, recipe, settings, seed=0, folder=tmp_path / device).score
    assert scores["gpu"] == pytest.approx(scores["cpu"], rel=1e-3)


@needs_gpu
@pytest.mark.parametrize("architecture", architectures())
def test_measurements_agree(architecture):
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset)
    measures = {
        keys.LOSS_ENTROPY: partial(loss_entropy, directions=2, points=5, progress=False),
        keys.RMSE_FORCES_HIGH_T: accuracy,
        keys.MD_TIME_TO_FAILURE: partial(time_to_failure, replicas=2, duration_ps=0.005, progress=False),
    }
    on_cpu = {name: measure(model, dataset).metrics[name] for name, measure in measures.items()}
    model.to("cuda")
    on_gpu = {name: measure(model, dataset).metrics[name] for name, measure in measures.items()}
    np.testing.assert_allclose(list(on_gpu.values()), list(on_cpu.values()), rtol=1e-4)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"trainer\.accelerator=gpu.*trainer=cpu"):
        accelerator("gpu")
    assert accelerator("auto") == "cpu"
