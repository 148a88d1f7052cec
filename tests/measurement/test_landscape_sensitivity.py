"""Stored landscapes under other settings against landscapes evaluated with them; weights by layer."""

import io

import numpy as np
import pytest
import torch
from samples import ethanol_dataset, small_model

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.landscape.entropy import EntropySettings
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR, LossEntropy
from mlip_sweep.measurement.landscape.sensitivity import reanalyse
from mlip_sweep.measurement.landscape.weights import weight_table

pytest.importorskip("mace")
SIZE = {"directions": 2, "plane_points": 0, "progress": False}


@pytest.fixture(scope="module")
def measured():
    """A model, its data, and its landscape by either method, as stored and read again."""
    dataset = ethanol_dataset(3)
    model = small_model("mace", dataset, dtype="float32")
    reports = {method: LossEntropy(method=method, points=41, **SIZE)(model, dataset) for method in ("adaptive", "full")}
    stored = {}
    for method, report in reports.items():
        file = io.BytesIO()
        np.savez_compressed(file, **report.arrays)
        file.seek(0)
        stored[method] = dict(np.load(file, allow_pickle=False))
    return model, dataset, stored, reports


@pytest.mark.parametrize("method", ["adaptive", "full"])
def test_another_window_grid_and_temperature_need_no_new_evaluation(measured, method):
    model, dataset, stored, _ = measured
    changed = {"temperature_energy": 0.008, "temperature_forces": 0.08, "alpha": 0.5}
    again = LossEntropy(method="full", points=21, window=0.12, **changed, **SIZE)(model, dataset)
    found = reanalyse(stored[method], EntropySettings(0.008, 0.08, 0.5), points=21, window=0.12)
    assert found.total == pytest.approx(again.metrics[LOSS_ENTROPY], abs=0.01)
    assert found.total_stderr == pytest.approx(again.metrics[LOSS_ENTROPY_STDERR], rel=0.02)


def test_the_same_settings_give_the_same_entropy(measured):
    _, _, stored, reports = measured
    for method, report in reports.items():
        assert reanalyse(stored[method], EntropySettings()).total == report.metrics[LOSS_ENTROPY]


def test_a_window_that_was_not_evaluated_is_refused(measured):
    with pytest.raises(InputError, match=r"window=0\.5.*0\.25"):
        reanalyse(measured[2]["adaptive"], EntropySettings(), window=0.5)


def test_the_report_varies_each_setting(measured):
    *_, reports = measured
    table = reports["adaptive"].tables["sensitivity"]
    used = {"temperature_energy": 0.004, "temperature_forces": 0.04, "alpha": 0.2, "window": 0.25}
    for name, value in used.items():
        here = table[(table["varied"] == name) & np.isclose(table["value"], value)]
        assert here["S"].item() == pytest.approx(reports["adaptive"].metrics[LOSS_ENTROPY], abs=1e-9)
    np.testing.assert_allclose(table["S"], reports["full"].tables["sensitivity"]["S"], atol=0.02)
    assert {"landscape", "sensitivity", "weights"} <= set(reports["adaptive"].figures)


def test_weights_by_layer():
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 2)})
    with torch.no_grad():
        model["net"].weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
        model["net"].bias.copy_(torch.tensor([-4.0, 0.0]))
    table = weight_table(model).set_index("parameter")
    assert list(table.index) == ["weight", "bias"]
    assert table.loc["weight"].to_dict() == pytest.approx({"number": 4, "rms": 1.5, "max_abs": 3.0, "share": 9 / 25})
    assert table.loc["bias"].to_dict() == pytest.approx({"number": 2, "rms": 8**0.5, "max_abs": 4.0, "share": 16 / 25})
