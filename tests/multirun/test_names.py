import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import open_dict
from samples import ROOT

from mlip_sweep.multirun.folder import PARENT_FILE
from mlip_sweep.multirun.names import choices, run_name, varied_keys


def composed(overrides, *, mode="RUN"):
    """The entry `hydra` of the shipped config."""
    place = [f"hydra.mode={mode}", "hydra.sweep.dir=sweep"]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        return compose("run", return_hydra_config=True, overrides=[*place, *overrides]).hydra


@pytest.fixture
def name_of_job(tmp_path, monkeypatch):
    """The name of a job of a multirun, with these overrides, of which the whole multirun shares some."""

    def name(overrides, constants=()):
        (tmp_path / "sweep").mkdir()
        (tmp_path / "sweep" / PARENT_FILE).write_text(json.dumps({"run_id": "0", "constants": list(constants)}))
        monkeypatch.chdir(tmp_path)
        return run_name(composed(overrides, mode="MULTIRUN"))

    return name


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["seed=0", "averaging=swa", "rescaling=forces_rms", "model=mace"], "mace · forces_rms · swa · s0"),
        (["rescaling=none", "averaging=none"], "no rescaling · no averaging"),
        (["optimizer.lr=0.0031728394051", "seed=12345678"], "lr 0.003173 · s12345678"),
        (["++model.num_layers=3", "model=nequip"], "nequip · num_layers 3"),
        (
            ["loss.energy_weight=2", "loss.validation.energy_weight=3"],
            "loss.energy_weight 2 · validation.energy_weight 3",
        ),
        (["seeds.model=1", "trainer=cpu"], "cpu · model s1"),
        (["dataset.n_train=20", "dataset=3bpa"], "3bpa · n_train 20"),
        (["dataset=extxyz", "dataset.train='/data/with water.xyz'"], "extxyz · train with water"),
        (["optimizer._target_=torch.optim.RAdam", "optimizer.lr=0.01"], "RAdam · lr 0.01"),
        ([], "nequip · ethanol_xtb"),
    ],
)
def test_the_name_of_a_job_says_what_varies(name_of_job, overrides, expected):
    assert name_of_job(overrides) == expected


def test_what_all_jobs_share_is_left_out(name_of_job):
    overrides = ["model=mace", "trainer.max_epochs=20", "seed=1"]
    assert name_of_job(overrides, constants=["trainer.max_epochs"]) == "mace · s1"


def test_a_long_name_is_cut(name_of_job):
    name = name_of_job([f"+key{i}=value" for i in range(99)])
    assert (len(name), name[-1]) == (200, "…")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], "nequip · ethanol_xtb"),
        (["model=mace", "rescaling=none", "trainer.progress=false"], "mace · ethanol_xtb · no rescaling"),
        (["dataset=extxyz", "dataset.train=/data/train_300K.xyz"], "nequip · train_300K"),
        (["dataset=extxyz", "dataset.tests={300K: a.xyz, 600K: b.xyz}"], "nequip · extxyz"),
        (["seed=3", "optimizer.lr=0.01"], "nequip · ethanol_xtb · lr 0.01 · s3"),
    ],
)
def test_a_single_run_tells_model_and_data_first(overrides, expected):
    assert run_name(composed(overrides)) == expected


def test_choices_are_those_of_this_program():
    found = choices(composed(["averaging=swa", "pruning=none"]))
    assert found["averaging"] == "swa" and found["pruning"] == "none" and found["model"] == "nequip"
    assert not [group for group in found if group.startswith("hydra")]


def test_what_varies_is_told_in_the_order_of_names():
    hydra_cfg = composed([])
    with open_dict(hydra_cfg):
        hydra_cfg.sweeper.params = {"seed": "range(3)", "rescaling": "none,forces_rms"}
        hydra_cfg.overrides.task = ["optimizer.lr=0.01,0.02", "model=mace,nequip", "n=20", "rescaling=none"]
    assert varied_keys(hydra_cfg) == ["model", "optimizer.lr", "seed"]  # typed, rescaling has one value only
