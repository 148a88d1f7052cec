"""Jobs of a multirun that train together: which go into one cohort, and how they run in step."""

import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from mlip_sweep.errors import InputError

log = logging.getLogger(__name__)

# What members of a cohort have to have in common; whatever else differs stays each one's own.
SHARED_GROUPS = ("model", "dataset")
SHARED_TRAINER = ("batch_size", "dtype", "accelerator", "compile", "max_atoms")
SHARED_SEEDS = ("order", "data")


def launch(
    context: HydraContext,
    task: TaskFunction,
    config: DictConfig,
    *,
    jobs: Sequence[Sequence[str]],
    first: int,
    size: int,
    n_jobs: int,
) -> list[JobReturn]:
    """Run jobs of a multirun, those together that can be.

    Args:
        context: Hydra's own.
        task: the program.
        config: of the multirun.
        jobs: overrides of each job.
        first: number of the first job.
        size: largest number of jobs that train together.
        n_jobs: cohorts at once, each in a process of its own.

    Returns:
        What each job has returned, in order.

    Raises:
        InputError: `size` or `n_jobs` is no positive number.
    """
    for name, value in (("size", size), ("n_jobs", n_jobs)):
        if not isinstance(value, int) or value < 1:
            raise InputError(f"hydra.launcher.{name}={value}: give a number greater than 0")
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    composed = [_composed(context, config, overrides, first + place) for place, overrides in enumerate(jobs)]
    cohorts = grouped(composed, size)
    for number, places in enumerate(cohorts):
        told = "; ".join(" ".join(filter_overrides(jobs[place])) for place in places)
        log.info(f"cohort {number}: {len(places)} run{'s' if len(places) > 1 else ''} together: {told}")
    if len(cohorts) > 1:
        log.info(
            f"runs form {len(cohorts)} cohorts, since they differ in {_differences(composed)} or number more than {size}"
        )
    state = Singleton.get_state()
    works = [partial(_run_cohort, context, task, [composed[place] for place in places], state) for places in cohorts]
    returns: dict[int, JobReturn] = {}
    for places, done in zip(cohorts, _in_processes(works, n_jobs), strict=True):
        returns |= dict(zip(places, done, strict=True))
    return [returns[place] for place in range(len(jobs))]


def grouped(composed: Sequence[DictConfig], size: int) -> list[list[int]]:
    """Places of the jobs that train together: those of one architecture on one data set, at most `size` of them."""
    alike: dict[str, list[int]] = {}
    for place, config in enumerate(composed):
        alike.setdefault(json.dumps(_in_common(config), sort_keys=True, default=str), []).append(place)
    return [places[start : start + size] for places in alike.values() for start in range(0, len(places), size)]


def _in_common(config: DictConfig) -> dict[str, Any]:
    parts: dict[str, Any] = {group: OmegaConf.to_container(config[group], resolve=True) for group in SHARED_GROUPS}
    parts |= {f"trainer.{name}": config.trainer.get(name) for name in SHARED_TRAINER}
    return parts | {f"seeds.{name}": config.seeds.get(name) for name in SHARED_SEEDS}


def _differences(composed: Sequence[DictConfig]) -> str:
    """Names of what keeps jobs from one cohort."""
    common = [_in_common(config) for config in composed]
    return ", ".join(name for name in common[0] if len({str(one[name]) for one in common}) > 1) or "nothing"


def _composed(context: HydraContext, config: DictConfig, overrides: Sequence[str], number: int) -> DictConfig:
    job = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job):
        job.hydra.job.id = f"{job.hydra.job.name}_{number}"
        job.hydra.job.num = number
    return job


def _run_cohort(
    context: HydraContext, task: TaskFunction, composed: Sequence[DictConfig], state: Any
) -> list[JobReturn]:
    """Run the jobs of one cohort in step, in this process."""
    from mlip_sweep.bars import no_bars
    from mlip_sweep.training.cohort import Cohort  # PyTorch takes seconds to import

    setup_globals()
    Singleton.set_state(state)
    with no_bars():
        members = Cohort([partial(_run_one, context, task, job) for job in composed], _surroundings).run()
    for member in members:
        if member.error is not None:
            raise member.error
    return [member.result for member in members]


def _run_one(context: HydraContext, task: TaskFunction, job: DictConfig) -> JobReturn:
    HydraConfig.instance().set_config(job)
    return run_job(
        hydra_context=context,
        task_function=task,
        config=job,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def _surroundings() -> Callable[[], None]:
    """Hydra keeps one config and one log for the whole process; each job finds its own again."""
    config, handlers = HydraConfig.instance().cfg, list(logging.root.handlers)

    def restore() -> None:
        HydraConfig.instance().cfg = config
        logging.root.handlers[:] = handlers

    return restore


def _in_processes(works: Sequence[Callable[[], list[JobReturn]]], n_jobs: int) -> list[list[JobReturn]]:
    if n_jobs == 1 or len(works) == 1:
        return [work() for work in works]
    try:
        from joblib import Parallel, delayed
    except ImportError as error:
        raise InputError(
            f"hydra.launcher.n_jobs={n_jobs}: joblib is not installed; pip install 'mlip-sweep[joblib]', or set it to 1"
        ) from error
    return Parallel(n_jobs=n_jobs, backend="loky")(delayed(work)() for work in works)
