"""What the Slurm launcher of conf/ asks Slurm for, without a Slurm."""

import re

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from samples import ROOT

submitit = pytest.importorskip("submitit")
plugin = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config")


@pytest.fixture
def script(tmp_path, monkeypatch):
    """The file that would go to sbatch, made by submitit from what the launcher hands it."""
    monkeypatch.setattr(submitit.SlurmExecutor, "affinity", classmethod(lambda cls: 2))  # as if srun were there

    def make(*overrides: str) -> str:
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
            config = compose("run", ["hydra/launcher=slurm", *overrides], return_hydra_config=True)
        given = OmegaConf.to_container(config.hydra.launcher) | {"name": "trial"}
        assert given.pop("_target_").endswith("SlurmLauncher")
        del given["submitit_folder"]
        executor = submitit.AutoExecutor(tmp_path, "slurm", slurm_max_num_timeout=given.pop("max_num_timeout"))
        common = set(OmegaConf.structured(plugin.BaseQueueConf))
        executor.update_parameters(**{key if key in common else f"slurm_{key}": given[key] for key in given})
        return executor._executor._make_submission_file_text("a-run", "id")

    return make


def options(text: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", text, re.MULTILINE))


def test_a_job_is_one_task_that_is_told_before_its_time_limit(script):
    asked = options(script())
    assert (asked["nodes"], asked["ntasks-per-node"], asked["cpus-per-task"], asked["mem"]) == ("1", "1", "2", "8GB")
    assert asked["signal"] == "USR2@120"
    assert int(asked["time"]) * 60 > 120
    assert asked["open-mode"] == "append"  # a requeued job goes on in its log
    assert not {"partition", "account", "gpus-per-node"} & asked.keys()


def test_srun_gets_the_number_of_cpus_before_it_runs(script):
    lines = script("hydra.launcher.cpus_per_task=4").splitlines()
    export = lines.index("export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK")
    assert export < next(n for n, line in enumerate(lines) if line.startswith("srun ") and line.endswith("a-run"))


def test_site_values_are_keys(script):
    site = ["partition=gpu", "account=physics", "gpus_per_node=1", "timeout_min=30"]
    asked = options(script(*(f"hydra.launcher.{value}" for value in site)))
    assert (asked["partition"], asked["account"], asked["gpus-per-node"], asked["time"]) == (
        "gpu",
        "physics",
        "1",
        "30",
    )
