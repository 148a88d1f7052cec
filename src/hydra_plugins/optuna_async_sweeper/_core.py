"""The sweep: ask, launch, wait, tell, until the total is reached."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException, ConfigCompositionException
from hydra.utils import get_method
from omegaconf import OmegaConf
from optuna.pruners import NopPruner

from hydra_plugins.optuna_async_sweeper import _outcome as outcomes
from hydra_plugins.optuna_async_sweeper import _report as report
from hydra_plugins.optuna_async_sweeper._launchers import LauncherThreads
from hydra_plugins.optuna_async_sweeper._outcome import Outcome
from hydra_plugins.optuna_async_sweeper._plots import draw
from hydra_plugins.optuna_async_sweeper._sampler import make_pruner, sampler_maker
from hydra_plugins.optuna_async_sweeper._space import Space, parse_space
from hydra_plugins.optuna_async_sweeper._storage import open_storage
from hydra_plugins.optuna_async_sweeper._study import SweepStudy, failed, repeated
from hydra_plugins.optuna_async_sweeper._workers import LocalWorkers
from hydra_plugins.optuna_async_sweeper.config import direction_words

if TYPE_CHECKING:
    from hydra_plugins.optuna_async_sweeper.optuna_async_sweeper import OptunaAsyncSweeper

TICK_S = 1.0
STUDY_FILE = "study.yaml"  # in the sweep's folder: whose trials lie there
# Launchers of this machine; their slots are the sweeper's own processes, which outlive a trial, and its death.
LOCAL = ("hydra._internal.core_plugins.basic_launcher.", "hydra_plugins.hydra_joblib_launcher.")

log = logging.getLogger(__name__)


class Slots(Protocol):
    """What runs trials."""

    @property
    def free(self) -> int:
        """Slots without a trial."""

    def start(self, number: int, overrides: list[str]) -> None:
        """Run a trial."""

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The trials that have ended."""

    def close(self) -> None:
        """End it."""


def sweep(sweeper: "OptunaAsyncSweeper", arguments: list[str]) -> None:
    """Run a study to its total.

    Raises:
        CompactHydraException: the settings do not serve, too many trials failed, or none was completed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = sweeper.config
    _check(sweeper)
    params = OmegaConf.to_container(sweeper.params, resolve=True) if OmegaConf.is_config(sweeper.params) else {}
    space = parse_space(
        dict(params),  # type: ignore[arg-type]
        arguments,
        sweeper.custom_search_space,
        sweeper.hydra_context.config_loader,
    )
    folder = Path(config.hydra.sweep.dir)
    name = sweeper.study_name or str(config.hydra.job.name)
    directions = _directions(sweeper.direction)
    sampler, grid_size = sampler_maker(sweeper.sampler, space)
    pruner = make_pruner(sweeper.pruner)
    if len(directions) > 1 and not isinstance(pruner, NopPruner):
        raise ConfigCompositionException("hydra/sweeper/pruner: Optuna prunes single-objective studies only; use none")
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".optuna.lock"
    with FileLock(lock):
        storage = open_storage(sweeper.storage, config.hydra.runtime.cwd)
    study = SweepStudy(
        name,
        storage,
        directions,
        space,
        sampler,
        pruner,
        sweeper.n_trials if grid_size is None else min(sweeper.n_trials, grid_size),
        lock,
        grid=grid_size is not None,
    )
    with FileLock(lock):
        _own(folder, name, study.identity)
    OmegaConf.save(config, folder / "multirun.yaml")
    gone = study.take_up()
    if changed := study.refixed():
        log.warning("changed for the trials from here on:\n  %s", "\n  ".join(changed))
    if gone:
        log.info("trials %s were interrupted, and are lined up again", ", ".join(map(str, gone)))
    slots = _slots(sweeper)
    stopped = None
    try:
        stopped = _run(study, slots, sweeper, space)
    finally:
        slots.close()
        trials = study.trials()
        report.write_results(study.study, trials, folder)
        draw(study.study, trials, folder)
        report.show(study.study, trials)
    _conclude(study, stopped)


def _run(study: SweepStudy, slots: Slots, sweeper: "OptunaAsyncSweeper", space: Space) -> str | None:
    """Keep the slots filled; returns why the study was stopped before its total, if it was."""
    configure = _custom(sweeper)
    running: set[int] = set()
    stopped = None
    with report.Progress(study, sweeper.n_jobs) as progress:
        try:
            while True:
                stopped = stopped or _too_many_failures(study, sweeper.max_failure_rate)
                while stopped is None and slots.free:
                    trial = study.claim(configure)
                    if trial is None:
                        break
                    running.add(trial.number)
                    slots.start(trial.number, space.overrides(trial.params))
                    progress.show()
                if not running:
                    return stopped
                for number, outcome in slots.wait(TICK_S):
                    running.discard(number)
                    if outcome.reason is None and not outcome.pruned:
                        outcome = outcomes.judged(outcome.values, len(study.study.directions))
                    study.tell(number, outcome)
                    progress.ended(number)
                study.beat()
                progress.show()
        except BaseException:
            slots.close()
            for number in running:
                study.tell(number, Outcome(reason=outcomes.reason(outcomes.INTERRUPTED, "the sweep was stopped")))
            raise


def _too_many_failures(study: SweepStudy, rate: float) -> str | None:
    trials = study.trials()
    again = repeated(trials)
    lost = sum(failed(trial) and trial.number not in again for trial in trials)
    if lost <= rate * study.n_trials:
        return None
    return (
        f"{lost} trials have failed, more than hydra.sweeper.max_failure_rate={rate:g} allows of {study.n_trials}; "
        "mend the cause, or raise the rate, and run the same command again"
    )


def _conclude(study: SweepStudy, stopped: str | None) -> None:
    """Raise where the study cannot be called a success."""
    trials = study.trials()
    name = study.study.study_name
    if stopped is not None:
        raise CompactHydraException(f"study {name!r} was stopped: {stopped}\n{report.reasons(trials)}")
    if trials and all(failed(trial) for trial in trials if trial.state.is_finished()):
        raise CompactHydraException(f"study {name!r}: all its trials have failed\n{report.reasons(trials)}")


def _check(sweeper: "OptunaAsyncSweeper") -> None:
    for key in ("n_trials", "n_jobs"):
        if getattr(sweeper, key) < 1:
            raise ConfigCompositionException(f"hydra.sweeper.{key}={getattr(sweeper, key)}: give at least 1")
    if not 0.0 <= sweeper.max_failure_rate <= 1.0:
        raise ConfigCompositionException(
            f"hydra.sweeper.max_failure_rate={sweeper.max_failure_rate}: give a share from 0 to 1"
        )
    if sweeper.timeout_s is not None and sweeper.timeout_s <= 0:
        raise ConfigCompositionException(f"hydra.sweeper.timeout_s={sweeper.timeout_s}: give seconds above 0, or null")


def _directions(direction: Any) -> list[str]:
    words = direction_words(direction)
    if not words or not set(words) <= {"minimize", "maximize"}:
        raise ConfigCompositionException(
            f"hydra.sweeper.direction={direction}: give minimize or maximize, or a list of them"
        )
    return words


def _own(folder: Path, name: str, identity: str) -> None:
    """Refuse a folder that holds the jobs of something else, which new ones would overwrite.

    Raises:
        ConfigCompositionException: it does.
    """
    mine = {"study_name": name, "identity": identity}
    file = folder / STUDY_FILE
    if file.exists():
        found = OmegaConf.to_container(OmegaConf.load(file))
        if found == mine:
            return
        owner = f"another study, {found}"
    elif any(entry.name.isdecimal() for entry in folder.iterdir()):
        owner = "another sweep"
    else:
        OmegaConf.save(OmegaConf.create(mine), file)
        return
    raise ConfigCompositionException(
        f"hydra.sweep.dir={folder} holds the jobs of {owner}; study {name!r} ({identity}) would overwrite them: give "
        "it a folder of its own"
    )


def _custom(sweeper: "OptunaAsyncSweeper") -> Callable[[Any], None] | None:
    if sweeper.custom_search_space is None:
        return None
    try:
        extend = get_method(sweeper.custom_search_space)
    except Exception as error:
        raise ConfigCompositionException(
            f"hydra.sweeper.custom_search_space={sweeper.custom_search_space}: {' '.join(str(error).split())}"
        ) from None
    return lambda trial: extend(sweeper.config, trial)


def _slots(sweeper: "OptunaAsyncSweeper") -> Slots:
    context, task, config = sweeper.hydra_context, sweeper.task_function, sweeper.config
    HydraConfig.instance().set_config(config)
    if str(config.hydra.launcher._target_).startswith(LOCAL):
        return LocalWorkers(sweeper.n_jobs, sweeper.timeout_s, hydra_context=context, task_function=task, config=config)
    if sweeper.timeout_s is not None:
        raise ConfigCompositionException(
            "hydra.sweeper.timeout_s is for trials on this machine; this launcher has a time-out of its own"
        )
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=config)
    return LauncherThreads(sweeper.n_jobs, launcher)
