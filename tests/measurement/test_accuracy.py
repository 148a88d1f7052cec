"""Errors against sums done by hand."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from toys import LennardJones, dataset_of, frame_of

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.measurement.accuracy import (
    EXTRAPOLATION_SLOPE,
    RMSE_FORCES_ALL_T,
    RMSE_FORCES_HIGH_T,
    Accuracy,
    extrapolation_slope,
    predict,
    rmse_forces,
)
from mlip_sweep.models.targets import ENERGY, FORCES

MODEL = {"sigma": 1.0, "epsilon": 0.2, "cutoff": 4.0, "onset": 3.0}


def frames(n: int, atoms: int, energy_error: float, forces_error: float, seed: int):
    """Frames whose labels miss the model's by given errors: e in the energy, ±f alternating over components."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        positions = np.arange(atoms)[:, None] * [1.1, 0.3, 0.0] + rng.normal(0.0, 0.05, (atoms, 3))
        molecule = Atoms(f"H{atoms}", positions)
        found = predict(LennardJones(**MODEL), graphs_of([frame_of(molecule)], 4.0))
        energy, forces = found.energy.item(), found.forces.numpy()
        signs = np.resize([1.0, -1.0], forces.shape)
        made.append(frame_of(molecule, energy=energy + energy_error, forces=forces + forces_error * signs))
    return made


def test_predictions_come_in_order_whatever_the_batches():
    mixed = [*frames(3, 4, 0.0, 0.0, 0), *frames(2, 6, 0.0, 0.0, 1)]
    whole, pieces = (predict(LennardJones(**MODEL), graphs_of(mixed, 4.0), max_atoms=n) for n in (4096, 7))
    np.testing.assert_allclose(whole.energy, [frame.energy for frame in mixed])
    np.testing.assert_allclose(whole.forces, np.concatenate([frame.forces for frame in mixed]))
    np.testing.assert_allclose(pieces.energy, whole.energy, rtol=1e-12)
    np.testing.assert_allclose(pieces.forces, whole.forces, rtol=1e-12, atol=1e-14)


def test_errors_pool_and_slope_by_hand():
    tests = {
        "300K": frames(2, 4, 0.004, 0.010, 0),
        "600K": frames(3, 4, 0.008, 0.020, 1),
        "1200K": frames(5, 4, 0.012, 0.060, 2),
        "dihedral": frames(1, 4, 0.0, 0.100, 3),
    }
    data = dataset_of(frames(2, 4, 0.002, 0.005, 4), tests=tests, training_temperature=300.0)
    report = Accuracy()(LennardJones(**MODEL), data)
    found = report.metrics
    assert found[ENERGY.metric("rmse", "300K")] == pytest.approx(1.0)  # 4 meV over four atoms
    assert found[ENERGY.metric("mae", "1200K")] == pytest.approx(3.0)
    assert found[rmse_forces("600K")] == pytest.approx(20.0)
    assert found[FORCES.metric("mae", "600K")] == pytest.approx(20.0)
    assert found[rmse_forces("train")] == pytest.approx(5.0)
    squares = {"300K": 2 * 10**2, "600K": 3 * 20**2, "1200K": 5 * 60**2}
    assert found[RMSE_FORCES_ALL_T] == pytest.approx(np.sqrt(sum(squares.values()) / 10))
    assert found[RMSE_FORCES_HIGH_T] == pytest.approx(np.sqrt((sum(squares.values()) - squares["300K"]) / 8))
    assert found[rmse_forces("dihedral")] == pytest.approx(100.0)  # of its own, and in neither pool
    # Straight line through (300, 10), (600, 20), (1200, 60): Σ(T − 700)(F − 30) / Σ(T − 700)².
    assert found[EXTRAPOLATION_SLOPE] == pytest.approx((400 * 20 + 100 * 10 + 500 * 30) / (400**2 + 100**2 + 500**2))
    assert rmse_forces("train_clean") not in found
    table = report.tables["errors"].set_index("set")
    assert list(table.index) == ["300K", "600K", "1200K", "dihedral", "train", "all_T", "high_T"]
    assert table.loc["all_T", "frames"] == 10
    assert table.loc["high_T", "frames"] == 8
    assert report.notes == []


def test_errors_by_element_and_by_config_type():
    model = LennardJones(**MODEL)
    alike = frames(2, 4, 0.0, 0.010, 0)  # of one element and no config_type
    mixed = [*frames(3, 4, 0.004, 0.020, 1), *frames(1, 6, 0.0, 0.050, 2)]
    mixed = [replace(f, config_type=kind) for f, kind in zip(mixed, ("bulk", "bulk", "", "slab"), strict=True)]
    mixed[3] = replace(mixed[3], atomic_numbers=np.array([1, 1, 18, 18, 18, 18]))
    mixed[0] = replace(mixed[0], cell=20.0 * np.eye(3), stress=np.zeros((3, 3)))
    tables = Accuracy()(model, dataset_of(alike, tests={"mixed": mixed})).tables
    elements = tables["errors_by_element"]
    assert elements[["set", "element", "atoms"]].to_numpy().tolist() == [["mixed", "H", 14], ["mixed", "Ar", 4]]
    errors = Accuracy()(
        model, dataset_of(mixed[:1], tests={"mixed": mixed})
    ).metrics  # Ar and H are the same to the model
    hydrogen, argon = elements["rmse_forces_meV_A"]
    assert hydrogen == pytest.approx(np.sqrt((12 * 20.0**2 + 2 * 50.0**2) / 14))
    assert argon == pytest.approx(50.0)
    assert (14 * hydrogen**2 + 4 * argon**2) / 18 == pytest.approx(errors[rmse_forces("mixed")] ** 2)
    types = tables["errors_by_config_type"]
    assert types[["set", "config_type", "frames"]].to_numpy().tolist() == [
        ["mixed", "(none)", 1],
        ["mixed", "bulk", 2],
        ["mixed", "slab", 1],
    ]
    assert types["rmse_forces_meV_A"].tolist() == pytest.approx([20.0, 20.0, 50.0])
    assert types["mae_energy_meV_atom"].tolist() == pytest.approx([1.0, 1.0, 0.0], abs=1e-9)
    assert types["rmse_stress_meV_A3"].isna().tolist() == [True, False, True]
    plain = Accuracy()(model, dataset_of(alike, tests={"more": alike})).tables
    assert list(plain) == ["errors"]


@pytest.mark.parametrize(
    ("labels", "training", "all_T", "high_T"),
    [
        (["600K"], 300.0, ["600K"], ["600K"]),  # the coldest test set need not be at the training temperature
        (["300K"], 300.0, ["300K"], []),
        (["300K", "600K", "1200K"], 600.0, ["300K", "600K", "1200K"], ["1200K"]),
        (["bulk", "900K"], 300.0, ["900K"], ["900K"]),
        (["bulk"], 300.0, [], []),
        (["bulk"], None, [], []),
        (["600K"], None, ["600K"], []),
    ],
)
def test_a_pool_by_temperature_holds_temperatures(labels, training, all_T, high_T):
    errors = {label: 0.010 * (k + 1) for k, label in enumerate(labels)}
    tests = {label: frames(1, 4, 0.0, error, k) for k, (label, error) in enumerate(errors.items())}
    data = dataset_of(frames(1, 4, 0.0, 0.0, 9), tests=tests, training_temperature=training)
    report = Accuracy()(LennardJones(**MODEL), data)
    for name, pool in ((RMSE_FORCES_ALL_T, all_T), (RMSE_FORCES_HIGH_T, high_T)):
        assert (name in report.metrics) == bool(pool)
        if pool:
            expected = 1000 * np.sqrt(np.mean([errors[label] ** 2 for label in pool]))
            assert report.metrics[name] == pytest.approx(expected)
    assert [rmse_forces(label) in report.metrics for label in labels] == [True] * len(labels)


def test_root_mean_square_is_not_mean_absolute():
    small, large = frames(3, 4, 0.0, 0.010, 0), frames(1, 4, 0.0, 0.050, 1)
    report = Accuracy()(LennardJones(**MODEL), dataset_of(small, tests={"mixed": [*small, *large]}))
    assert report.metrics[rmse_forces("mixed")] == pytest.approx(np.sqrt((3 * 100 + 2500) / 4))
    assert report.metrics[FORCES.metric("mae", "mixed")] == pytest.approx(20.0)
    assert EXTRAPOLATION_SLOPE not in report.metrics


def test_noisy_labels_are_measured_beside_the_original_ones():
    clean = frames(2, 4, 0.0, 0.003, 0)
    noisy = frames(2, 4, 0.0, 0.030, 0)
    found = Accuracy()(LennardJones(**MODEL), dataset_of(noisy, train_clean=clean)).metrics
    assert found[rmse_forces("train")] == pytest.approx(30.0)
    assert found[rmse_forces("train_clean")] == pytest.approx(3.0)
    assert RMSE_FORCES_ALL_T not in found  # no test sets


def test_sets_of_different_size_are_pooled_by_component():
    tests = {"300K": frames(1, 4, 0.0, 0.010, 0), "600K": frames(1, 6, 0.0, 0.020, 1)}
    found = Accuracy()(LennardJones(**MODEL), dataset_of(tests["300K"], tests=tests)).metrics
    assert found[RMSE_FORCES_ALL_T] == pytest.approx(np.sqrt((12 * 100 + 18 * 400) / 30))


def test_slope_needs_two_temperatures():
    assert extrapolation_slope({"300K": 1.0, "dihedral": 3.0}) is None
    assert extrapolation_slope({"300K": 10.0, "1200 K": 100.0}) == pytest.approx(0.1)


def test_a_model_of_nan_gives_nan_and_a_note_and_keeps_its_mode():
    data = dataset_of(frames(2, 4, 0.0, 0.0, 0), tests={"300K": frames(1, 4, 0.0, 0.0, 1)})
    model = LennardJones(**(MODEL | {"epsilon": float("nan")})).train()
    model.rescaling.eval()
    report = Accuracy()(model, data)
    assert np.isnan(report.metrics[rmse_forces("300K")])
    assert "predictions on 300K are not all finite" in report.notes
    assert model.training and not model.rescaling.training
