"""Potentials that share a program have the numbers that each has alone."""

import copy
import dataclasses

import pytest
import torch
from samples import TINY, architectures, copper_frame, ethanol_dataset, ethanol_frames, main_architectures, small_model
from toys import LennardJones

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.mapped import Evaluation, check_alike, derive_together
from mlip_sweep.models.rescaling import Rescaling

RESCALING = [(1.3, [-4.0, 2.0, 0.5]), (0.7, [1.0, -3.0, 0.25]), (2.0, [0.0, 0.0, 8.0])]  # scale, shift of each element


def models_of(architecture, count=3, **changes):
    """Potentials that differ in their weights, in their rescaling and in the average number of neighbours."""
    dataset, models = ethanol_dataset(), []
    for k, (scale, shift) in enumerate(RESCALING[:count]):
        stretched = [dataclasses.replace(frame, positions=(1 + 0.5 * k) * frame.positions) for frame in dataset.train]
        model = small_model(architecture, dataclasses.replace(dataset, train=stretched), seed=k, **changes)
        model.rescaling = Rescaling(scale, shift)
        models.append(model)
    assert len({model.hyperparameters["avg_num_neighbors"] for model in models}) == count
    return models


def tiny_models(architecture, count=3, **changes):
    return models_of(architecture, count, **TINY[architecture], **changes)


def batch_of(n: int, seed: int = 0):
    return collate([graph(frame, 5.0) for frame in ethanol_frames(n, seed=seed)])


def together(models, batches, states=None, backend=None, virials=False):
    """Energies of atoms and their derivatives of each model at its own batch."""
    states = states or [{}] * len(models)
    geometries = [batch.geometry() for batch in batches]
    rows = [Evaluation(*row, virials) for row in zip(models, states, geometries, strict=True)]
    derived = derive_together(rows, backend)
    assert all(output.dtype == torch.float64 for output in derived)
    sizes = [len(batch.positions) for batch in batches]
    return [tuple(output[k, :n] for output in derived) for k, n in enumerate(sizes)]


def loss_of(batch, energies, forces, virials=None):
    loss = (energies - 3.0).square().mean() + 10.0 * (forces - batch.forces).square().mean()
    return loss if virials is None else loss + virials.square().mean()


def gradients(model):
    """The gradients that a backward pass has left, which are taken away; zeros where it has left none."""
    taken = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad()
    return taken


def assert_as_alone(models, batches, tolerance, backend=None, virials=False):
    """Energies, their derivatives and gradients of every potential are what it gives by itself."""
    for model in models:
        model.eval()
    for model, batch, got in zip(models, batches, together(models, batches, None, backend, virials), strict=True):
        for one, alone in zip(got, model.derive({}, batch.geometry(), virials), strict=True):
            assert not one.requires_grad
            torch.testing.assert_close(one, alone, rtol=tolerance, atol=tolerance)
    for model in models:
        model.train()
    rows = together(models, batches, None, backend, virials)
    sum(loss_of(batch, *row) for row, batch in zip(rows, batches, strict=True)).backward()
    for model, batch in zip(models, batches, strict=True):
        got = gradients(model)
        loss_of(batch, *model.derive({}, batch.geometry(), virials)).backward()
        expected = gradients(model)
        assert sum(g.abs().max() > 0 for g in expected) > 0.8 * len(expected)
        for one, other in zip(got, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1.0, float(other.abs().max())))
        model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", architectures())
def test_each_has_the_numbers_that_it_has_alone_at_a_batch_of_its_own(architecture):
    models = models_of(architecture)
    assert_as_alone(models, [batch_of(3), batch_of(1), batch_of(2, seed=4)], 1e-10)
    assert_as_alone(models[:2], [batch_of(4)] * 2, 1e-10)


class Root(Potential):
    """e_i = √(1 + w Σ_j |r_ij|²): a derivative that reuses its own result, and a sum by `index_add`."""

    def __init__(self, w: float) -> None:
        super().__init__(cutoff=5.0, atomic_numbers=[1, 6, 8], rescaling=Rescaling(1.0, [0.0] * 3), dtype="float64")
        self.w = torch.nn.Parameter(torch.tensor([w], dtype=torch.float64))
        self.hyperparameters = {"_target_": "Root"}

    def atomic_energies(self, geometry):
        squares = geometry.edge_vectors().square().sum(dim=1)
        sums = squares.new_zeros(len(geometry.positions)).index_add(0, geometry.edge_index[1], squares)
        return torch.sqrt(1 + self.w * sums)


def test_saved_results_and_sums_by_index_are_as_alone():
    assert_as_alone([Root(0.3), Root(0.7)], [batch_of(2), batch_of(2, seed=4)], 1e-12)


@pytest.mark.parametrize("architecture", main_architectures())
def test_single_precision_agrees_to_rounding(architecture):
    assert_as_alone(tiny_models(architecture, dtype="float32"), [batch_of(3)] * 3, 1e-5)


@pytest.mark.parametrize("architecture", main_architectures())
def test_one_alone_and_batches_of_any_size(architecture):
    (frame,) = ethanol_frames(1)
    atom = dataclasses.replace(
        frame, atomic_numbers=frame.atomic_numbers[:1], positions=frame.positions[:1], forces=frame.forces[:1]
    )
    models = tiny_models(architecture, count=2)
    for rows, batches in ((models[:1], [batch_of(5)]), (models, [graph(atom, 5.0), batch_of(1)])):
        for model, batch, (energies, _) in zip(rows, batches, together(rows, batches), strict=True):
            torch.testing.assert_close(energies, model.derive({}, batch.geometry())[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", architectures())
def test_atoms_that_see_their_own_images(architecture):
    frame = copper_frame()
    dataset = Dataset("copper", [frame], [frame], {}, [frame])
    models = [small_model(architecture, dataset, seed=k, **TINY[architecture]) for k in range(2)]
    for virials in (False, True):
        assert_as_alone(models, [graph(frame, 5.0)] * 2, 1e-10, virials=virials)


@pytest.mark.parametrize("architecture", main_architectures())
def test_none_depends_on_the_others(architecture):
    models, batches = tiny_models(architecture), [batch_of(2)] * 3
    for model in models:
        model.train()

    def numbers_of_second():
        rows = together(models, batches)
        sum(loss_of(batch, *row) for row, batch in zip(rows, batches, strict=True)).backward()
        return [rows[1][0].detach(), rows[1][1].detach(), *gradients(models[1])]

    before = numbers_of_second()
    with torch.no_grad():
        for parameter in models[0].parameters():
            parameter.fill_(torch.nan)
        for parameter in models[2].parameters():
            parameter.mul_(-3.0)
    for one, other in zip(before, numbers_of_second(), strict=True):
        assert torch.equal(one, other)
    assert not torch.isfinite(together(models, batches)[0][0]).any()


@pytest.mark.parametrize("architecture", main_architectures())
def test_weights_are_those_of_the_moment_or_those_that_are_given(architecture):
    models, batches = tiny_models(architecture), [batch_of(2)] * 3
    before = together(models, batches)
    moved = [{name: 1.1 * p.detach() for name, p in model.named_parameters()} for model in models]
    moved[0] = {}  # this one's own
    moved[1]["rescaling.shift"] = models[1].rescaling.shift + 1.0
    given = together(models, batches, moved)
    assert torch.equal(together(models, batches)[1][1], before[1][1])
    assert torch.equal(given[0][1], before[0][1])
    with torch.no_grad():
        for model, states in zip(models, moved, strict=True):
            for name, state in states.items():
                model.states()[name].copy_(state)
    now = together(models, batches)
    for k in range(3):
        assert torch.equal(now[k][0], before[k][0]) == (k == 0)
        assert torch.equal(now[k][0], given[k][0])
        assert torch.equal(now[k][1], given[k][1])
    for name in ("no_such_weight", "element_index"):
        with pytest.raises(KeyError, match=name):
            together(models, batches, [{}, {}, {name: torch.zeros(1)}])
    models[2].train()
    with pytest.raises(ValueError, match="training mode"):
        together(models, batches)


@pytest.mark.parametrize("architecture", main_architectures())
def test_what_is_unlike_is_named(architecture):
    first, second = tiny_models(architecture, count=2)
    check_alike(first, second)
    toy = LennardJones(sigma=1.0, epsilon=1.0, cutoff=3.0, onset=2.0)
    with pytest.raises(InputError, match=rf"a LennardJones beside a {type(first).__name__}"):
        check_alike(first, toy)
    with pytest.raises(InputError, match="without hyperparameters"):
        check_alike(toy, toy)
    with pytest.raises(InputError, match=r"cutoff=4\.0 beside cutoff=5\.0"):
        check_alike(first, small_model(architecture, ethanol_dataset(), **TINY[architecture], cutoff=4.0))
    with pytest.raises(InputError, match="dtype=float32 beside dtype=float64"):
        check_alike(first, small_model(architecture, ethanol_dataset(), dtype="float32", **TINY[architecture]))
    wider, other = copy.deepcopy(second), copy.deepcopy(second)
    name, parameter = next(iter(wider.named_parameters()))
    path, _, key = name.rpartition(".")
    setattr(wider.get_submodule(path), key, torch.nn.Parameter(torch.zeros(5, *parameter.shape)))
    with pytest.raises(InputError, match=rf"{name}: \(5, .*beside \({parameter.shape[0]}"):
        check_alike(first, wider)
    other.element_index += 1
    with pytest.raises(InputError, match="element_index has other values"):
        check_alike(first, other)


@pytest.mark.parametrize("architecture", architectures()[:1])  # compiling is slow
def test_a_program_serves_any_number_of_any_size(architecture):
    from torch._dynamo.testing import CompileCounterWithBackend

    counter, models = CompileCounterWithBackend("aot_eager"), tiny_models(architecture)
    for part in (models[:2], models):
        for batch in (batch_of(2), batch_of(4)):
            assert_as_alone(part, [batch] * len(part), 1e-10, backend=counter)
    assert counter.frame_count == 2  # one for evaluation, one for training
