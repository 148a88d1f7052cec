"""Jobs of a multirun that train together: which go into one cohort, and how they run in step."""

import json
import logging
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from multiprocessing import active_children, get_context
from typing import Any, NoReturn

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, filter_overrides, setup_globals
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.bars import no_bars
from mlip_sweep.errors import InputError
from mlip_sweep.tracking.run import ENDING
from optuna_async.config import Program
from optuna_async.jobs import composed, run
from optuna_async.worker import end_with_parent

log = logging.getLogger(__name__)

# What the members of a cohort have in common. Whatever else differs stays each one's own: seed, number of frames,
# rescaling, loss, optimizer, averaging, epochs, measurements.
SHARED = (
    "model",
    "dataset",
    "trainer.batch_size",
    "trainer.dtype",
    "trainer.accelerator",
    "trainer.compile",
    "trainer.max_atoms",
)
OWN = ("model.start", "dataset.n_train", "dataset.n_validation", "dataset.noise")

_pool: ProcessPoolExecutor | None = None  # of this process


def launch(program: Program, *, jobs: Sequence[Sequence[str]], first: int, size: int, n_jobs: int) -> list[JobReturn]:
    """Run jobs of a multirun, those together that can be.

    Args:
        program: of the multirun.
        jobs: overrides of each job.
        first: number of the first job.
        size: largest number of jobs that train together.
        n_jobs: cohorts at once, each in a process of its own.

    Returns:
        What each job has returned, in order.
    """
    setup_globals()
    configure_log(program.config.hydra.hydra_logging, program.config.hydra.verbose)
    configs = [composed(program, overrides, first + place) for place, overrides in enumerate(jobs)]
    cohorts = grouped(configs, size, n_jobs)
    for places in cohorts:
        words = [" ".join(filter_overrides(jobs[place])) for place in places]
        log.info(
            "%s: %s", f"{len(places)} runs train together" if len(places) > 1 else "a run by itself", "; ".join(words)
        )
    if reasons := _reasons(configs, cohorts, size, n_jobs):
        log.info("in %d cohorts, %s", len(cohorts), " and ".join(reasons))
    state = Singleton.get_state()
    works = [
        partial(_run_cohort, program, [configs[place] for place in places], state, bars=number == 0)
        for number, places in enumerate(cohorts)
    ]
    returns: dict[int, JobReturn] = {}
    for places, done in zip(cohorts, _in_processes(works, n_jobs), strict=True):
        returns |= dict(zip(places, done, strict=True))
    return [returns[place] for place in range(len(jobs))]


def check_launcher(launcher: DictConfig) -> None:
    """Refuse settings of the launcher that make no sense, before anything is launched.

    Args:
        launcher: `hydra.launcher` of a multirun, of whatever launcher.

    Raises:
        InputError: `size` or `n_jobs` of a launcher of cohorts is no positive number.
    """
    if not str(launcher.get("_target_")).endswith(".CohortLauncher"):
        return
    for name in ("size", "n_jobs"):
        value = launcher.get(name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"hydra.launcher.{name}={value}: give a number greater than 0")


def grouped(configs: Sequence[DictConfig], size: int, n_jobs: int) -> list[list[int]]:
    """Places of the jobs that train together.

    Args:
        configs: Of the jobs.
        size: The largest number of jobs that train together.
        n_jobs: Cohorts at once: runs that could be one cohort are shared out, two to each process at least, so that no
            process is idle while another trains what costs more.
    """
    alike: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        alike.setdefault(json.dumps(_in_common(config), sort_keys=True, default=str), []).append(place)
    cohorts = []
    for places in alike.values():
        parts = max(1, min(n_jobs, len(places) // 2), -(-len(places) // size))
        ends = [round(len(places) * part / parts) for part in range(parts + 1)]
        cohorts += [places[start:end] for start, end in pairwise(ends)]
    return sorted(cohorts)


def _in_common(config: DictConfig) -> dict[str, Any]:
    common: dict[str, Any] = {}
    for key in SHARED:
        value = OmegaConf.select(config, key)
        common[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    for group, _, key in (name.partition(".") for name in OWN):
        if isinstance(common[group], dict):
            common[group].pop(key, None)
    return common


def _reasons(configs: Sequence[DictConfig], cohorts: Sequence[Sequence[int]], size: int, n_jobs: int) -> list[str]:
    """Why the jobs are not one cohort."""
    common = [_in_common(config) for config in configs]
    differ = [key for key in SHARED if len({json.dumps(one[key], sort_keys=True, default=str) for one in common}) > 1]
    reasons = [f"since they differ in {', '.join(differ)}"] if differ else []
    if len(cohorts) > 1 and len(configs) > size:
        reasons.append(f"of at most hydra.launcher.size={size}")
    if len(cohorts) > 1 and n_jobs > 1:
        reasons.append(f"shared out to hydra.launcher.n_jobs={n_jobs} processes")
    return reasons


def _run_cohort(program: Program, jobs: Sequence[DictConfig], state: Any, *, bars: bool) -> list[JobReturn]:
    """Run the jobs of one cohort in step, in this process; the first may show how far it is."""
    from mlip_sweep.training.cohort import Cohort  # PyTorch takes seconds to import

    setup_globals()
    Singleton.set_state(state)
    restore = _surroundings()
    members = Cohort(
        [partial(_run_one, program, job, bars=bars and place == 0) for place, job in enumerate(jobs)],
        _surroundings,
    ).run()
    restore()
    for member in members:
        if member.error is not None:
            raise member.error
    return [member.result for member in members]


def _run_one(program: Program, job: DictConfig, *, bars: bool) -> JobReturn:
    try:
        with nullcontext() if bars else no_bars():
            return run(program, job)
    finally:
        for handler in logging.root.handlers:  # this job's; the next one that Hydra configures does not know of them
            if isinstance(handler, logging.FileHandler):
                handler.close()


def _surroundings() -> Callable[[], None]:
    """Hydra keeps one config and one log for the whole process; each job finds its own again."""
    config, handlers = HydraConfig.instance().cfg, list(logging.root.handlers)

    def restore() -> None:
        HydraConfig.instance().cfg = config
        logging.root.handlers[:] = handlers

    return restore


def _in_processes(works: Sequence[Callable[[], list[JobReturn]]], n_jobs: int) -> list[list[JobReturn]]:
    """Run cohorts, so many at once, each in a process; a single one in this process."""
    global _pool
    if n_jobs == 1 or len(works) == 1:
        return [work() for work in works]
    if _pool is None:  # kept for the next launch of a search: a process imports for seconds, and writes programs out
        _pool = ProcessPoolExecutor(n_jobs, get_context("spawn"), initializer=_begin)
    try:
        # By value where need be, as Hydra's launchers do: a script's functions live in __main__, and the classes of
        # Hydra's configs that a process is handed are not those that it imports.
        futures = [_pool.submit(_called, cloudpickle.dumps(work)) for work in works]
        return [cloudpickle.loads(future.result()) for future in futures]
    except BrokenProcessPool:
        _pool = None
        raise
    except BaseException:  # Ctrl-C, or a signal that only this process has got
        pool, _pool = _pool, None
        _end(pool)
        raise


def _begin() -> None:
    """In a process of the pool: the first signal ends its members as Ctrl-C does; more change nothing."""
    end_with_parent()
    numbers = (signal.SIGINT, *ENDING)

    def stop(number: int, frame: object) -> NoReturn:
        for same in numbers:
            signal.signal(same, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _end(pool: ProcessPoolExecutor) -> None:
    """Wait until the processes have closed their runs; a signal meanwhile ends them at once."""
    try:
        for process in active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)
    except BaseException:
        for process in active_children():
            process.kill()
        raise


def _called(work: bytes) -> bytes:
    """Do what another process asks for, and pack what it is to be answered."""
    return cloudpickle.dumps(cloudpickle.loads(work)())
