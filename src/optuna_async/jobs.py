"""Jobs of a multirun, composed and run as Hydra's own launchers do."""

from collections.abc import Sequence

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, run_job
from omegaconf import DictConfig, open_dict

from optuna_async.config import Program


def composed(program: Program, overrides: Sequence[str], number: int) -> DictConfig:
    """The config of the job of a number."""
    job = program.context.config_loader.load_sweep_config(program.config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    return job


def run(program: Program, job: DictConfig) -> JobReturn:
    """Run a job that is composed, in this process and thread."""
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=program.context,
        task_function=program.task_function,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
