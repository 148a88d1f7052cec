"""Every file of conf/model, made narrow, through every clause of the contract in `mlip_sweep.models.interface`."""

import copy
import dataclasses
import multiprocessing
import os
import subprocess
import sys
from functools import cache
from importlib import metadata

import numpy as np
import pytest
import torch
from samples import (
    MODELS,
    architecture_class,
    copper_frame,
    ethanol_dataset,
    ethanol_frames,
    model_config,
    model_configs,
    small_model,
)
from scipy.spatial.transform import Rotation
from toys import LennardJones

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate, graph
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.build_context import build_context
from mlip_sweep.models.targets import residuals_of


@pytest.fixture(params=model_configs())
def architecture(request):
    return request.param


@cache
def of_ethanol(architecture):
    return small_model(architecture, ethanol_dataset())


@cache
def of_copper(architecture):
    frame = copper_frame()
    return small_model(architecture, Dataset("copper", [frame], [frame], {}, [frame]))


@pytest.fixture
def model(architecture):
    return copy.deepcopy(of_ethanol(architecture))


@pytest.fixture
def periodic(architecture):
    return copper_frame(), copy.deepcopy(of_copper(architecture))


def test_shapes_and_precision(model):
    batch = collate([graph(f, model.cutoff) for f in ethanol_frames(3)])
    found = model(batch)
    assert found.energy.shape == (3,)
    assert found.forces.shape == (27, 3)
    assert found.energy.dtype == found.forces.dtype == torch.float64
    assert not found.energy.requires_grad
    assert not found.forces.requires_grad


def test_training_mode_lets_forces_reach_the_parameters(model):
    model.train()
    found = model(graph(ethanol_frames(1)[0], model.cutoff))
    found.forces.square().sum().backward()
    reached = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(reached) > 0.8 * len(list(model.parameters()))


def test_forces_are_the_gradient_of_the_energy(model):
    frame = ethanol_frames(1)[0]
    forces = model(graph(frame, model.cutoff)).forces
    h = 1e-4
    for atom, axis in [(0, 0), (3, 1), (8, 2)]:
        energies = []
        for sign in (1, -1):
            positions = frame.positions.copy()
            positions[atom, axis] += sign * h
            energies.append(model(graph(dataclasses.replace(frame, positions=positions), model.cutoff)).energy.item())
        assert forces[atom, axis].item() == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_forces_are_the_gradient_of_the_energy_in_a_periodic_cell(periodic):
    frame, model = periodic
    forces = model(graph(frame, model.cutoff)).forces
    h = 1e-4
    energies = []
    for sign in (1, -1):
        positions = frame.positions.copy()
        positions[2, 1] += sign * h
        energies.append(model(graph(dataclasses.replace(frame, positions=positions), model.cutoff)).energy.item())
    assert forces[2, 1].item() == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-6)


def test_stress_is_the_derivative_of_the_energy_by_a_strain(periodic):
    frame, model = periodic
    stress = model(graph(frame, model.cutoff)).stress[0].numpy()
    volume, h = abs(np.linalg.det(frame.cell)), 1e-5
    for i, j in [(0, 0), (1, 2), (0, 2)]:
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * h
            strained = dataclasses.replace(frame, positions=frame.positions @ strain, cell=frame.cell @ strain)
            energies.append(model(graph(strained, model.cutoff)).energy.item())
        assert stress[i, j] == pytest.approx((energies[0] - energies[1]) / (2 * h * volume), abs=1e-7)
        assert stress[j, i] == pytest.approx(stress[i, j], abs=1e-12)


def test_the_stress_reaches_the_parameters(periodic):
    frame, model = periodic
    model.train()
    model(graph(frame, model.cutoff)).stress.square().sum().backward()
    reached = [name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().max() > 0]
    assert len(reached) > 0.8 * len(list(model.parameters()))


def test_a_molecule_among_cells_has_no_stress_and_spoils_none(periodic):
    frame, model = periodic
    model.train()
    cluster = dataclasses.replace(frame, cell=np.zeros((3, 3)), pbc=np.zeros(3, dtype=bool), stress=None)
    batch = collate([graph(frame, model.cutoff), graph(cluster, model.cutoff), graph(frame, model.cutoff)])
    found = model(batch)
    assert found.stress[1].isnan().all()
    torch.testing.assert_close(found.stress[0], found.stress[2], rtol=0, atol=1e-10)
    missed = residuals_of(found, batch)
    assert missed["stress"].shape == (18,)
    missed["stress"].square().mean().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_larger_cell_has_as_many_times_the_energy(periodic):
    frame, model = periodic
    doubled = dataclasses.replace(
        frame,
        atomic_numbers=np.tile(frame.atomic_numbers, 2),
        positions=np.concatenate([frame.positions, frame.positions + frame.cell[0]]),
        cell=frame.cell * np.array([[2], [1], [1]]),
        forces=np.tile(frame.forces, (2, 1)),
    )
    one, two = model(graph(frame, model.cutoff)), model(graph(doubled, model.cutoff))
    assert two.energy.item() == pytest.approx(2 * one.energy.item(), abs=1e-8)
    assert torch.allclose(two.forces[: len(frame)], one.forces, atol=1e-8)
    assert torch.allclose(two.stress, one.stress, atol=1e-10)


def test_other_states_give_what_the_model_would_with_them(model):
    batch = collate([graph(f, model.cutoff) for f in ethanol_frames(2)])
    before, buffers = model(batch), {name: b.clone() for name, b in model.named_buffers()}
    moved = {name: 1.1 * p.detach() for name, p in model.named_parameters()}
    parts = [moved, moved | buffers, {name: moved.get(name, own) for name, own in model.states().items()}]
    predictions = [model.predict(states, batch) for states in parts]
    assert torch.equal(model(batch).forces, before.forces)
    assert all(type(p) is torch.nn.Parameter for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    expected = model(batch)
    assert not torch.equal(expected.energy, before.energy)
    for prediction in predictions:  # within rounding: which kernel torch takes depends on who asks for gradients
        torch.testing.assert_close(prediction.energy, expected.energy, rtol=0, atol=1e-12)
        torch.testing.assert_close(prediction.forces, expected.forces, rtol=0, atol=1e-12)
    with pytest.raises(KeyError, match="no_such_weight"):
        model.predict({"no_such_weight": torch.zeros(1)}, batch)


def test_gradients_of_other_states_are_theirs(model):
    model.train()
    batch = graph(ethanol_frames(1)[0], model.cutoff)
    leaves = {name: p.detach().clone().requires_grad_(True) for name, p in model.named_parameters()}
    for prediction in (model(batch), model.predict(leaves, batch)):
        prediction.forces.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (leaves[name].grad is None)
        if parameter.grad is not None:
            torch.testing.assert_close(leaves[name].grad, parameter.grad, rtol=1e-12, atol=1e-12)


def test_an_error_leaves_the_models_own_states(model, monkeypatch):
    own = model.states()

    def broken(geometry):
        raise RuntimeError

    monkeypatch.setattr(model, "atomic_energies", broken)
    with pytest.raises(RuntimeError):
        model.predict({name: 2.0 * state.detach() for name, state in own.items()}, graph(ethanol_frames(1)[0], 5.0))
    assert all(state is own[name] for name, state in model.states().items())
    assert own.keys() == {name for name, _ in (*model.named_parameters(), *model.named_buffers())}


def test_translation_rotation_and_reflection(model):
    frame = ethanol_frames(1)[0]
    one = model(graph(frame, model.cutoff))
    rotation = Rotation.random(rng=4).as_matrix()
    for matrix in (rotation, -rotation):
        moved = dataclasses.replace(frame, positions=frame.positions @ matrix.T + np.array([3.0, -7.0, 11.0]))
        two = model(graph(moved, model.cutoff))
        assert two.energy.item() == pytest.approx(one.energy.item(), abs=1e-7)
        assert torch.allclose(two.forces, one.forces @ torch.tensor(matrix.T), atol=1e-6)


def test_permutation(model):
    frame = ethanol_frames(1)[0]
    order = np.random.default_rng(0).permutation(len(frame))
    shuffled = dataclasses.replace(
        frame, atomic_numbers=frame.atomic_numbers[order], positions=frame.positions[order], forces=frame.forces[order]
    )
    one, two = model(graph(frame, model.cutoff)), model(graph(shuffled, model.cutoff))
    assert two.energy.item() == pytest.approx(one.energy.item(), abs=1e-8)
    assert torch.allclose(two.forces, one.forces[order], atol=1e-8)


def test_a_batch_is_the_sum_of_its_parts(model):
    graphs = [graph(f, model.cutoff) for f in ethanol_frames(3)]
    together, apart = model(collate(graphs)), [model(g) for g in graphs]
    assert torch.allclose(together.energy, torch.cat([p.energy for p in apart]), atol=1e-8)
    assert torch.allclose(together.forces, torch.cat([p.forces for p in apart]), atol=1e-8)


def test_an_edge_beyond_the_cutoff_changes_nothing(architecture):
    model = small_model(architecture, ethanol_dataset(), cutoff=2.5)
    frame = ethanol_frames(1)[0]
    near, far = graph(frame, model.cutoff), graph(frame, 2 * model.cutoff)
    assert far.edge_index.shape[1] > near.edge_index.shape[1]
    assert model(far).energy.item() == pytest.approx(model(near).energy.item(), abs=1e-9)
    assert torch.allclose(model(far).forces, model(near).forces, atol=1e-9)


def test_float32_agrees_with_float64(architecture):
    batch = collate([graph(f, 5.0) for f in ethanol_frames(3)])
    single = small_model(architecture, ethanol_dataset(), dtype="float32")
    double = small_model(architecture, ethanol_dataset(), dtype="float64")
    weights = {k: v.to(double.state_dict()[k].dtype) for k, v in single.state_dict().items()}
    double.load_state_dict(weights)
    assert torch.allclose(single(batch).energy, double(batch).energy, atol=1e-4)
    assert torch.allclose(single(batch).forces, double(batch).forces, atol=1e-3)


def test_the_seed_decides_the_weights_and_nothing_global_moves(architecture):
    torch.manual_seed(7)
    generator, environment = torch.get_rng_state(), dict(os.environ)
    first = small_model(architecture, ethanol_dataset(), seed=1)
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_default_dtype() == torch.float32
    assert dict(os.environ) == environment
    torch.randn(3)
    again, other = (small_model(architecture, ethanol_dataset(), seed=s) for s in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_what_a_library_changes_globally_is_put_back():
    def everything():
        return torch.get_default_dtype(), multiprocessing.get_start_method(allow_none=True), dict(os.environ)

    before = everything()
    with build_context(0, "float64"):
        os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
        multiprocessing.set_start_method("forkserver", force=True)
    assert everything() == before


def test_trainable_bessel_adds_its_frequencies_to_the_parameters(architecture):
    config = model_config(architecture)
    if "bessel_trainable" not in config:
        pytest.skip(f"{architecture} has no trainable Bessel functions")

    def count(trainable: bool) -> int:
        return sum(
            p.numel() for p in small_model(architecture, ethanol_dataset(), bessel_trainable=trainable).parameters()
        )

    assert count(True) - count(False) == config["num_bessels"]


def test_a_checkpoint_gives_the_same_model(model, tmp_path):
    batch = collate([graph(f, model.cutoff) for f in ethanol_frames(3)])
    checkpoint.save(model, tmp_path / "checkpoint.pt")
    loaded = checkpoint.load(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(batch).energy, model(batch).energy)
    assert torch.equal(loaded(batch).forces, model(batch).forces)


def test_a_checkpoint_of_another_e3nn_is_refused_where_its_weights_belong_to_e3nn(model, tmp_path, monkeypatch):
    path = checkpoint.save(model, tmp_path / "checkpoint.pt")
    content = torch.load(path, weights_only=True)
    content["versions"]["e3nn"] = "0.4.4"
    torch.save(content, path)
    if type(model).weights_belong_to_e3nn:
        with pytest.raises(InputError, match=r"e3nn 0\.4\.4.*pip install"):
            checkpoint.load(path)
    monkeypatch.setattr(type(model), "weights_belong_to_e3nn", False)
    checkpoint.load(path)


def test_a_missing_library_is_named_with_its_extra(architecture, monkeypatch, tmp_path):
    cls = architecture_class(architecture)
    if cls.library is None:
        pytest.skip(f"{architecture} needs no library")
    assert cls.library.extra in metadata.metadata("mlip-sweep").get_all("Provides-Extra")
    path = checkpoint.save(small_model(architecture, ethanol_dataset()), tmp_path / "checkpoint.pt")
    monkeypatch.setattr(checkpoint, "_version", lambda distribution: None)
    message = rf"not installed.*mlip-sweep\[{cls.library.extra}\]"
    with pytest.raises(InputError, match=message):
        checkpoint.check_hyperparameters(model_config(architecture))
    with pytest.raises(InputError, match=message):
        checkpoint.load(path)


def test_an_architecture_can_be_asked_about_where_its_library_is_missing():
    targets = [model_config(name)["_target_"] for name in MODELS]
    script = f"""
import sys
for library in ("allegro", "e3nn", "graph_pes", "mace", "nequip"):
    sys.modules[library] = None  # as if it were not there
from mlip_sweep.models.checkpoint import architecture_of
for target in {targets}:
    assert architecture_of(target).library
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_potential_without_e3nn_is_saved_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "_version", lambda distribution: None if distribution == "e3nn" else "1")
    model = LennardJones(sigma=1.0, epsilon=1.0, cutoff=3.0, onset=2.0)
    path = checkpoint.save(model, tmp_path / "checkpoint.pt")
    assert torch.load(path, weights_only=True)["versions"].keys() == {"mlip-sweep", "torch"}


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoint.pt").write_text("not a checkpoint")
    with pytest.raises(InputError, match="not a checkpoint"):
        checkpoint.load(tmp_path)
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "absent.pt")


def test_unknown_elements_are_named(model):
    with pytest.raises(InputError, match=r"here: atomic numbers \[26\]"):
        model.check_elements([1, 6, 26], "here")
