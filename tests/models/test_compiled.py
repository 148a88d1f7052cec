"""Compiled potentials give the numbers of the eager ones, in every use that is made of them."""

import copy
import shutil

import numpy as np
import pytest
import torch
from samples import TINY, architectures, ethanol_dataset, ethanol_frames, main_architectures, small_model
from torch._dynamo.testing import CompileCounterWithBackend

from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE, TimeToFailure
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LossEntropy
from mlip_sweep.models.compiled import compile_potential

# Writes the graph out and differentiates it as the default does, but runs torch's own kernels: no minutes of compiling.
QUICK = "aot_eager"


def tiny(architecture, **changes):
    return small_model(architecture, ethanol_dataset(), **TINY[architecture], **changes)


def batch_of(n: int, seed: int = 0):
    return collate([graph(frame, 5.0) for frame in ethanol_frames(n, seed=seed)])


def gradients(model, batch):
    found = model.train()(batch)
    scalar = found.energy.square().sum() + found.forces.square().sum()
    gradient = torch.autograd.grad(scalar, list(model.parameters()), allow_unused=True)
    model.eval()
    return gradient


@pytest.mark.slow
@pytest.mark.parametrize("architecture", main_architectures())
def test_the_same_numbers_and_gradients_for_any_batch(architecture):
    model, eager = tiny(architecture), tiny(architecture)
    assert compile_potential(model, batch_of(3), training=True, backend=QUICK) > 0
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    for batch in (batch_of(3), batch_of(1), batch_of(5, seed=4)):
        compiled, expected = model(batch), eager(batch)
        assert not compiled.forces.requires_grad
        torch.testing.assert_close(compiled.energy, expected.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(compiled.forces, expected.forces, rtol=0, atol=1e-12)
        for one, other in zip(gradients(model, batch), gradients(eager, batch), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("architecture", architectures()[:1])  # compiling is slow
def test_weights_are_those_of_the_moment_and_of_each_model_its_own(architecture):
    first, second = tiny(architecture), tiny(architecture, seed=1)
    batch, counter = batch_of(2), CompileCounterWithBackend(QUICK)
    compile_potential(first, batch, training=False, backend=counter)
    before = first(batch).energy.clone()
    compile_potential(second, batch, training=False, backend=counter)  # the same architecture: the same program
    twin = copy.deepcopy(first)
    assert not torch.equal(second(batch).energy, before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.1)
    assert torch.equal(first(batch).energy, before)
    twin_compiled = twin(batch)
    assert not torch.equal(twin_compiled.energy, before)
    other = first.predict({name: 1.1 * p for name, p in first.named_parameters()}, batch)  # parameters, no buffers
    assert counter.frame_count == 1
    assert torch.equal(first(batch).energy, before)
    with pytest.raises(KeyError, match="no_such_weight"):
        first.predict({"no_such_weight": torch.zeros(1)}, batch)
    twin.compiled = None
    eager = twin(batch)
    for prediction in (twin_compiled, other):
        torch.testing.assert_close(prediction.energy, eager.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(prediction.forces, eager.forces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("architecture", architectures())
def test_a_lone_atom_has_an_energy(architecture):
    model, eager = tiny(architecture), tiny(architecture)
    compile_potential(model, batch_of(2), training=False, backend=QUICK)
    (frame,) = ethanol_frames(1)
    atom = graph(
        type(frame)(frame.atomic_numbers[:1], frame.positions[:1], frame.cell, frame.pbc, 0.0, frame.forces[:1]), 5.0
    )
    torch.testing.assert_close(model(atom).energy, eager(atom).energy)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")
@pytest.mark.parametrize("architecture", architectures()[:1])
def test_measurements_of_compiled_kernels_agree(architecture):
    model, dataset = tiny(architecture), ethanol_dataset()
    measures = {
        LOSS_ENTROPY: lambda: LossEntropy(directions=3, progress=False, plane_points=0)(model, dataset),
        TIME_TO_FAILURE: lambda: TimeToFailure(replicas=4, duration_ps=0.1, progress=False)(model, dataset),
    }
    eager = [measure().metrics[name] for name, measure in measures.items()]
    compile_potential(model, batch_of(3), training=False)
    compiled = [measure().metrics[name] for name, measure in measures.items()]
    np.testing.assert_allclose(compiled, eager, rtol=1e-6)


@pytest.mark.parametrize("architecture", architectures()[:1])
def test_a_machine_that_cannot_compile_is_told_how(architecture):
    def broken(graph, inputs):
        raise OSError("no compiler")

    with pytest.raises(InputError, match=r"trainer\.compile=true.*no compiler.*g\+\+.*trainer\.compile=false"):
        compile_potential(tiny(architecture), batch_of(2), training=False, backend=broken)
