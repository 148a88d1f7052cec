"""A committee is measured as its members were, by what asks for energies and forces alone."""

import io
import logging
import shutil

import numpy as np
import pytest
from samples import installed

from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import rmse_forces
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.models.committee import MEMBERS
from mlip_sweep.run.remeasure import remeasure
from mlip_sweep.run.run import run
from mlip_sweep.run.train import CHECKSUM
from mlip_sweep.tracking.read import stored_bytes, stored_runs

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")

SHORT = ["measurement=quick", "measurement.stability.duration_ps=0.02", "measurement.stability.replicas=2"]


@pytest.fixture
def committee(composed, tmp_path):
    """The folder of a committee of two seeds, as the registry holds it, and the config of its members."""
    for seed in range(2):
        run(composed(f"seed={seed}"), tmp_path / f"{seed}")
        shutil.copytree(tmp_path / f"{seed}" / "model", tmp_path / "committee" / MEMBERS / f"seed_{seed}")
    return tmp_path / "committee", composed()


def test_a_committee_is_measured(committee, caplog):
    folder, cfg = committee
    with caplog.at_level(logging.INFO):
        metrics = remeasure(str(folder), [*SHORT, "~measurement.bond_scans"], uri=cfg.tracking.uri)
    assert 0.0 <= metrics[TIME_TO_FAILURE] <= 0.02
    assert rmse_forces("1200K") in metrics and "loss_entropy" not in metrics
    assert "not of a committee: measurement.landscape, measurement.sharpness, measurement.inference_time" in caplog.text
    stored = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)[-1]
    assert stored.params["committee"] == "committee of 2"  # so a comparison has it as a choice of its own
    with np.load(io.BytesIO(stored_bytes(cfg.tracking.uri, stored.run_id, "stability/curves.npz"))) as curves:
        assert np.nanmax(curves["forces_spread_eV_A"]) > 0.0

    only = [f"~measurement.{name}" for name in ("accuracy", "stability", "bond_scans")]
    with pytest.raises(InputError, match=r"measurement\.landscape, .*: of one potential, not of a committee"):
        remeasure(str(folder), ["measurement=quick", *only], uri=cfg.tracking.uri)
    (folder / MEMBERS / "seed_1" / CHECKSUM).write_text("0123456789\n")
    with pytest.raises(InputError, match="the data has changed since the training"):
        remeasure(str(folder), SHORT, uri=cfg.tracking.uri)
