"""A training that begins from a potential which another program has trained, in that program's own file."""

import copy
from functools import partial

import pytest
import torch
from samples import TINY, ethanol_dataset, installed, small_model

from mlip_sweep.data.graphs import batches
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import rmse_forces
from mlip_sweep.models import checkpoint, library_files, nequip_file
from mlip_sweep.models.targets import ENERGY
from mlip_sweep.multirun.cohorts import grouped
from mlip_sweep.run.plan import make_plan
from mlip_sweep.run.remeasure import remeasure
from mlip_sweep.run.run import run
from mlip_sweep.run.train import build
from mlip_sweep.tracking.read import stored_runs
from mlip_sweep.training.cohort import Cohort

LIBRARIES = [
    pytest.param("mace", marks=pytest.mark.skipif(not installed("mace-torch"), reason="mace is not installed")),
    pytest.param("nequip", marks=pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed")),
]
ACCURACY = "+measurement={accuracy: {_target_: mlip_sweep.measurement.accuracy.Accuracy, max_atoms: 100}}"
STANDING_STILL = ("trainer.max_epochs=1", "optimizer.lr=1e-14", "loss=paper", "trainer.dtype=float64")


@pytest.fixture(scope="module")
def originals():
    """An untrained potential of each library, whose energies are near those of the frames."""
    return {
        name: small_model(name, ethanol_dataset(), **TINY[name])
        for name in ("mace", "nequip")
        if installed({"mace": "mace-torch"}.get(name, name))
    }


@pytest.fixture
def start(request, originals, tmp_path, files):
    """A file of a library, what it holds, and the overrides of a training that begins from it."""
    library = request.param
    model = originals[library]
    if library == "mace":
        path = tmp_path / "their.model"
        library_files.write(model, library, path)
    else:
        path = tmp_path / "their.ckpt"
        nequip_file.write_checkpoint(model, path, files / "train.xyz")
    return path, model, (f"model.start={path}", f"model.unpickle={library}")


def rmse(model, graphs):
    residuals = [ENERGY.residual(model(batch), batch) for batch in batches(graphs, 100)]
    return torch.cat(residuals).square().mean().sqrt().item()


@pytest.fixture
def pretrained(composed_of_any):
    """As `composed`, of the architecture that a file brings."""
    return partial(composed_of_any, "model=pretrained")


@pytest.mark.parametrize("start", LIBRARIES, indirect=True)
def test_the_training_begins_with_the_numbers_of_the_file(pretrained, start):
    _, original, overrides = start
    plan = make_plan(pretrained(*overrides, *STANDING_STILL))
    data = plan.read_data()
    model = build(plan, data)
    graphs = data.dataset.graphs("train", model.cutoff)
    assert model.dtype == torch.float64
    assert rmse(model, graphs) == pytest.approx(rmse(original.double(), graphs), rel=1e-4)
    single = build(make_plan(pretrained(*overrides, *STANDING_STILL, "trainer.dtype=float32")), data)
    assert single.dtype == torch.float32
    assert rmse(single, graphs) == pytest.approx(rmse(model, graphs), rel=1e-3)


@pytest.mark.parametrize("start", LIBRARIES, indirect=True)
def test_what_it_trains_is_a_run_like_any_other(pretrained, start, tmp_path):
    path, original, overrides = start
    cfg = pretrained(*overrides, "optimizer.lr=0.01", "trainer.max_epochs=3", "averaging=ema", ACCURACY)
    loss = run(cfg, tmp_path / "tuned")
    still = run(pretrained(*overrides, *STANDING_STILL, "loss=constant", "trainer.dtype=float32"), tmp_path / "still")
    assert loss < still
    (stored, *_) = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)
    assert stored.tags["start"].startswith(f"{path}@sha256:")
    assert stored.params["model.unpickle"] == overrides[1].partition("=")[2]
    path.unlink()  # what was trained stands by itself
    tuned = checkpoint.load(tmp_path / "tuned")
    assert type(tuned).__name__ in ("MACEOfFile", "NequIPOfCheckpoint")
    assert tuned.atomic_numbers == original.atomic_numbers
    metrics = remeasure(str(tmp_path / "tuned"), uri=cfg.tracking.uri)
    assert metrics[rmse_forces("300K")] == pytest.approx(stored.metrics[rmse_forces("300K")], rel=1e-6)
    goes_on = make_plan(pretrained(f"model.start=runs:/{stored.run_id}"))
    assert goes_on.initial_weights.hyperparameters == tuned.hyperparameters


@pytest.mark.parametrize("start", LIBRARIES, indirect=True)
def test_seeds_of_one_file_train_together(pretrained, start, tmp_path):
    _, _, overrides = start
    configs = [pretrained(*overrides, f"seed={seed}", "optimizer.lr=0.01", "trainer.dtype=float64") for seed in (0, 1)]
    alone = [run(copy.deepcopy(cfg), tmp_path / f"alone{place}") for place, cfg in enumerate(configs)]
    assert grouped(configs, size=8, n_jobs=1) == [[0, 1]]
    members = Cohort([partial(run, cfg, tmp_path / f"{place}") for place, cfg in enumerate(configs)]).run()
    assert [member.result for member in members] == pytest.approx(alone, rel=1e-8)


def test_what_cannot_begin_a_training_is_told_in_a_line(pretrained, originals, tmp_path):
    (tmp_path / "my.model").write_bytes(b"no pickle")
    for overrides, message in [
        ([], r"model: a pretrained potential needs model\.start"),
        (
            [f"model.start={tmp_path}/my.model"],
            r"say which library wrote it: model\.unpickle=mace or model\.unpickle=n",
        ),
        (["model.unpickle=mace"], r"model\.unpickle=mace: give the file too"),
        ([f"model.start={tmp_path}/no.model", "model.unpickle=mace"], r"no\.model: no such file"),
        ([f"model.start={tmp_path}/my.model", "model.unpickle=orb"], r"model\.unpickle=mace or"),
        ([f"model.start={tmp_path}/my.model", "model.unpickle=mace"], r"my\.model: no pickle of mace"),
    ]:
        with pytest.raises(InputError, match=message):
            make_plan(pretrained(*overrides))
    if "nequip" in originals:
        library_files.write(originals["nequip"], "nequip", tmp_path / "their.nequip.zip")
        package = [f"model.start={tmp_path}/their.nequip.zip", "model.unpickle=nequip"]
        with pytest.raises(InputError, match=r"can be measured, but not made again; of nequip, give a checkpoint"):
            make_plan(pretrained(*package))
