"""A training that begins from the weights of another run."""

from functools import partial

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.calculators.emt import EMT
from ase.io import read, write
from samples import installed, model_config

from mlip_sweep.data.graphs import collate
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.models.committee import MEMBERS
from mlip_sweep.models.targets import ENERGY
from mlip_sweep.multirun.cohorts import grouped
from mlip_sweep.run.initial_weights import initial_weights
from mlip_sweep.run.plan import make_plan
from mlip_sweep.run.run import run
from mlip_sweep.run.train import build
from mlip_sweep.tracking.models import register
from mlip_sweep.tracking.read import stored_runs
from mlip_sweep.training.cohort import Cohort
from mlip_sweep.training.metrics import VALIDATION_LOSS_KEPT

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")

STANDING_STILL = ("trainer.max_epochs=1", "optimizer.lr=1e-14")  # the first validation sees the weights of the start


@pytest.fixture
def trained(composed, tmp_path):
    """The folder of a finished run, and the run as it is recorded, whose model is registered under the name `first`."""
    cfg = composed("optimizer.lr=0.01")
    run(cfg, tmp_path / "first")
    (stored,) = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)
    register(cfg.tracking.uri, "first", stored.tags["model"].removeprefix("models:/"), "best")
    return tmp_path / "first", stored


def begun(cfg):
    """The potential of a run as its training begins, and its data."""
    plan = make_plan(cfg)
    data = plan.read_data()
    return build(plan, data), data.dataset


def test_the_first_validation_is_that_of_the_start(composed, tmp_path, trained):
    folder, first = trained
    cfg = composed(f"model.start=runs:/{first.run_id}", *STANDING_STILL)
    loss = run(cfg, tmp_path / "tuned")
    assert loss == pytest.approx(first.metrics[VALIDATION_LOSS_KEPT], rel=1e-5)
    assert run(composed(*STANDING_STILL), tmp_path / "untrained") != pytest.approx(loss, rel=1e-2)
    tuned = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)[1]
    assert tuned.tags["start"] == tuned.params["model.start"]
    assert tuned.tags["start"].startswith(f"runs:/{first.run_id}@sha256:")
    kept, start = (checkpoint.load(place).rescaling for place in (tmp_path / "tuned", folder))
    assert kept.scale == start.scale
    torch.testing.assert_close(kept.shift, start.shift, atol=1e-5, rtol=0)


def test_runs_with_a_start_train_together(composed, tmp_path, trained):
    folder, first = trained
    starts = (f"runs:/{first.run_id}", folder)
    configs = [composed(f"model.start={start}", f"seed={seed}", *STANDING_STILL) for seed, start in enumerate(starts)]
    assert grouped(configs, size=8, n_jobs=1) == [[0, 1]]
    members = Cohort([partial(run, cfg, tmp_path / f"{n}") for n, cfg in enumerate(configs)]).run()
    for member in members:
        assert member.error is None
        assert member.result == pytest.approx(first.metrics[VALIDATION_LOSS_KEPT], rel=1e-5)


def test_the_checksum_of_a_config_is_of_the_weights_not_of_their_name_alone(composed, tmp_path, trained):
    folder, first = trained
    addresses = (f"{folder}", f"{folder}/model/checkpoint.pt", f"runs:/{first.run_id}", "models:/first@best")
    plans = [make_plan(composed(f"model.start={address}")) for address in addresses]
    assert len({plan.initial_weights.address.partition("@sha256:")[2] for plan in plans}) == 1
    before = plans[-1]
    assert before.checksum != make_plan(composed()).checksum
    assert make_plan(composed(f"model.start={before.initial_weights.address}")).checksum == before.checksum
    assert "start" not in make_plan(composed()).resolved["model"]

    cfg = composed("seed=1", "trainer.max_epochs=1")
    run(cfg, tmp_path / "second")
    second = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)[-1]
    register(cfg.tracking.uri, "first", second.tags["model"].removeprefix("models:/"), "best")
    assert make_plan(composed("model.start=models:/first@best")).checksum != before.checksum
    with pytest.raises(InputError, match=r"model\.start=models:/first@best@sha256:.*: it holds another model by now"):
        make_plan(composed(f"model.start={before.initial_weights.address}"))


def test_energies_of_another_zero_are_shifted_where_the_loss_fits_the_shift(composed, tmp_path, files, trained):
    """Scale and shifts are those of the start; where the loss fits the shift, it is fitted to the new labels."""
    folder, _ = trained
    frames = read(f"{files}/train.xyz", ":")
    for frame in frames:
        frame.calc.results["energy"] += 9.0  # 1 eV an atom
    write(tmp_path / "shifted.xyz", frames)
    start = checkpoint.load(folder)
    options = (f"model.start={folder}", f"dataset.train={tmp_path}/shifted.xyz", "~dataset.tests")
    for loss, shift in (("constant", 1.0), ("paper", 0.0)):
        model, dataset = begun(composed(*options, f"loss={loss}"))
        assert model.rescaling.scale == start.rescaling.scale
        torch.testing.assert_close(
            model.rescaling.shift, start.rescaling.shift + shift, atol=0.05, rtol=0
        )  # the start has fitted its own shift to nearly these frames
        batch = collate(dataset.graphs("train", model.cutoff))
        assert abs(ENERGY.residual(model(batch), batch).mean() + (1.0 - shift)) < 0.05


def test_a_part_of_the_elements_will_do_and_others_will_not(composed, tmp_path, trained):
    folder, _ = trained
    rng = np.random.default_rng(0)
    for name in ("CH4", "NH3"):
        frames = [molecule(name, calculator=EMT()) for _ in range(8)]
        for frame in frames:
            frame.positions += rng.normal(0.0, 0.05, frame.positions.shape)
            frame.get_forces()
        write(tmp_path / f"{name}.xyz", frames)
    options = (f"model.start={folder}", "~dataset.tests")
    model, dataset = begun(composed(*options, f"dataset.train={tmp_path}/CH4.xyz"))
    assert dataset.atomic_numbers == (1, 6) and model.atomic_numbers == (1, 6, 8)
    with pytest.raises(InputError, match=r"model\.start=.*: atomic numbers \[7\] are unknown"):
        make_plan(composed(*options, f"dataset.train={tmp_path}/NH3.xyz")).read_data()


@pytest.fixture
def saved(composed, tmp_path):
    """A folder that holds a model as `composed` describes it."""
    model, _ = begun(composed())
    checkpoint.save(model, tmp_path / "checkpoint.pt")
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["model.num_features=3", "model.cutoff=4.5"],
            r"of cutoff=.*, num_features=.*, not of model\.cutoff=4\.5, mod",
        ),
        (["model.start=nowhere"], "'nowhere': no such folder"),
        (["model.start=runs:/0123456789"], "has the id '0123456789'"),
        (["model.start=5"], "model.start=5: give runs:/ID"),
        (["model.start=''"], "model.start='': give runs:/ID"),
    ],
)
def test_a_start_that_does_not_serve_is_one_line(composed, saved, overrides, message):
    with pytest.raises(InputError, match=message):
        make_plan(composed(f"model.start={saved}", *overrides))


def test_a_committee_is_no_start(saved):
    (saved / MEMBERS / "seed_0").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a committee has no weights of its own; give one of its members"):
        initial_weights({**model_config("nequip"), "start": str(saved)}, "sqlite:///unused.db")


def test_a_start_of_another_architecture_is_one_line(saved):
    wanted = {**model_config("mace"), "start": str(saved)}
    with pytest.raises(InputError, match=r"of _target_=\S+NequIP, not of model\._target_=\S+MACE; make them the same"):
        initial_weights(wanted, "sqlite:///unused.db")
