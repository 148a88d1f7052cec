"""The sweep: ask, launch, wait, tell, until the total is reached."""

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import optuna
from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import CompactHydraException, ConfigCompositionException
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf
from optuna.pruners import NopPruner

from optuna_async import outcome as outcomes
from optuna_async import report
from optuna_async.config import Program, StudyAddress, SweepSettings, direction_words, without_passwords
from optuna_async.launchers import LauncherThreads
from optuna_async.outcome import Outcome
from optuna_async.plots import draw
from optuna_async.sampler import make_pruner, sampler_maker
from optuna_async.space import Space, parse_space
from optuna_async.storage import open_storage
from optuna_async.study import SweepStudy, failed, repeated_numbers
from optuna_async.workers import LocalWorkers

TICK_S = 1.0
STUDY_FILE = "study.yaml"  # in the sweep's folder: the study whose jobs it holds
# Launchers of this machine; their slots are the sweeper's own processes, which outlive a trial, and its death.
LOCAL = ("hydra._internal.core_plugins.basic_launcher.", "hydra_plugins.hydra_joblib_launcher.")

log = logging.getLogger(__name__)


class Slots(Protocol):
    """What runs trials."""

    @property
    def free(self) -> int:
        """The number of slots without a trial."""

    def start(self, number: int, overrides: list[str]) -> None:
        """Run a trial in a free slot."""

    def wait(self, timeout_s: float) -> list[tuple[int, Outcome]]:
        """The numbers and outcomes of the trials that have ended, after at most `timeout_s`."""

    def close(self) -> None:
        """End what still runs."""


def sweep(settings: SweepSettings, program: Program, arguments: list[str]) -> None:
    """Run a study to its total of trials.

    Args:
        settings: The keys of `hydra.sweeper`.
        program: The Hydra program whose jobs are the trials.
        arguments: The overrides of the command line.

    Raises:
        CompactHydraException: The settings are unusable, too many trials failed, or every trial failed.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = program.config
    _check(settings, config.hydra.launcher)
    params = OmegaConf.to_container(settings.params, resolve=True) if OmegaConf.is_config(settings.params) else {}
    space = parse_space(
        dict(params),  # type: ignore[arg-type]
        arguments,
        settings.custom_search_space,
        program.context.config_loader,
    )
    folder = Path(config.hydra.sweep.dir)
    name = settings.study_name or str(config.hydra.job.name)
    directions = _directions(settings.direction)
    sampler, grid_size = sampler_maker(settings.sampler, space)
    pruner = make_pruner(settings.pruner)
    if len(directions) > 1 and not isinstance(pruner, NopPruner):
        raise ConfigCompositionException("hydra/sweeper/pruner: Optuna prunes single-objective studies only; use none")
    if settings.storage is None and not isinstance(pruner, NopPruner):
        raise ConfigCompositionException(
            "hydra/sweeper/pruner: with hydra.sweeper.storage=null no trial can report to the study, and none would be "
            "pruned; give a storage, such as sqlite:///optuna.db, or the pruner none"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".optuna.lock"
    with FileLock(lock):
        storage = open_storage(StudyAddress(settings.storage, name, config.hydra.runtime.cwd))
    study = SweepStudy(
        name,
        storage,
        directions,
        space,
        sampler,
        pruner,
        settings.n_trials if grid_size is None else min(settings.n_trials, grid_size),
        lock,
        grid=grid_size is not None,
    )
    study.refuse_another_program(_file_of(program))
    abandoned = study.close_abandoned()
    changed = study.changed_overrides()
    with FileLock(lock):
        _claim_folder(folder, name, study.identity)
    (folder / "multirun.yaml").write_text(without_passwords(OmegaConf.to_yaml(config)))
    warn_of_password(config)
    if changed:
        log.warning("changed for the trials from here on:\n  %s", "\n  ".join(changed))
    if abandoned:
        log.info("trials %s were interrupted, and are queued again", ", ".join(map(str, abandoned)))
    slots = _slots(settings, program)
    why_stopped = None
    try:
        why_stopped = _run(study, slots, settings, _custom_space(settings, program), space)
    finally:
        slots.close()
        trials = study.trials()
        report.write_results(study.study, trials, folder)
        draw(study.study, trials, folder)
        report.show(study.study, trials)
    _conclude(study, why_stopped)


def _run(
    study: SweepStudy,
    slots: Slots,
    settings: SweepSettings,
    configure: Callable[[Any], None] | None,
    space: Space,
) -> str | None:
    """Keep the slots filled.

    Returns:
        Why the study was stopped before its total; None where it was not.
    """
    running: set[int] = set()
    stopped = None
    with report.Progress(study, settings.n_jobs) as progress:
        try:
            while True:
                stopped = stopped or _too_many_failures(study, settings.max_failure_rate)
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
    repeated = repeated_numbers(trials)
    failures = sum(failed(trial) and trial.number not in repeated for trial in trials)
    if failures <= rate * study.n_trials:
        return None
    return (
        f"{failures} trials have failed, more than hydra.sweeper.max_failure_rate={rate:g} allows of {study.n_trials}; "
        "mend the cause, or raise the rate, and run the same command again"
    )


def _conclude(study: SweepStudy, why_stopped: str | None) -> None:
    """Raise where the study was no success."""
    trials = study.trials()
    name = study.study.study_name
    if why_stopped is not None:
        raise CompactHydraException(f"study {name!r} was stopped: {why_stopped}\n{report.reasons(trials)}")
    if trials and all(failed(trial) for trial in trials if trial.state.is_finished()):
        raise CompactHydraException(f"study {name!r}: all its trials have failed\n{report.reasons(trials)}")


def _file_of(program: Program) -> str:
    """Name of the file that the program's function stands in; its folder may be moved."""
    function = inspect.unwrap(program.task_function)
    code = getattr(function, "__code__", None)
    return Path(code.co_filename).name if code is not None else type(function).__name__


def warn_of_password(config: DictConfig) -> None:
    """Say that a password stands in the config itself, of which every job's folder gets a copy."""
    written = OmegaConf.to_container(config.hydra.sweeper, resolve=False)["storage"]  # type: ignore[call-overload, index]
    if without_passwords(str(written)) != str(written):
        log.warning(
            "the password in hydra.sweeper.storage is written to the folder of every job; keep it elsewhere, such as "
            "in an environment variable: hydra.sweeper.storage='${oc.env:NAME}'"
        )


def _check(settings: SweepSettings, launcher: Any) -> None:
    for key in ("n_trials", "n_jobs"):
        if getattr(settings, key) < 1:
            raise ConfigCompositionException(f"hydra.sweeper.{key}={getattr(settings, key)}: give at least 1")
    n_jobs = launcher.get("n_jobs", -1) if str(launcher._target_).startswith(LOCAL) else -1
    if n_jobs not in (-1, settings.n_jobs):
        raise ConfigCompositionException(
            f"hydra.launcher.n_jobs={n_jobs}: the sweeper starts the trials of this launcher itself; give "
            f"hydra.sweeper.n_jobs={n_jobs} instead"
        )
    if not 0.0 <= settings.max_failure_rate <= 1.0:
        raise ConfigCompositionException(
            f"hydra.sweeper.max_failure_rate={settings.max_failure_rate}: give a share from 0 to 1"
        )
    if settings.timeout_s is not None and settings.timeout_s <= 0:
        raise ConfigCompositionException(f"hydra.sweeper.timeout_s={settings.timeout_s}: give seconds above 0, or null")


def _directions(direction: Any) -> list[str]:
    words = direction_words(direction)
    if not words or not set(words) <= {"minimize", "maximize"}:
        raise ConfigCompositionException(
            f"hydra.sweeper.direction={direction}: give minimize or maximize, or a list of them"
        )
    return words


def _claim_folder(folder: Path, name: str, identity: str) -> None:
    """Write down that a folder belongs to this study.

    Raises:
        ConfigCompositionException: The folder holds the jobs of something else, which new jobs would overwrite.
    """
    this_study = {"study_name": name, "identity": identity}
    file = folder / STUDY_FILE
    if file.exists():
        stored = OmegaConf.to_container(OmegaConf.load(file))
        if stored == this_study:
            return
        owner = f"another study, {stored}"
    elif any(entry.name.isdecimal() for entry in folder.iterdir()):
        owner = "another sweep"
    else:
        OmegaConf.save(OmegaConf.create(this_study), file)
        return
    raise ConfigCompositionException(
        f"hydra.sweep.dir={folder} holds the jobs of {owner}; study {name!r} ({identity}) would overwrite them: give "
        "it a folder of its own"
    )


def _custom_space(settings: SweepSettings, program: Program) -> Callable[[Any], None] | None:
    """What suggests the parameters of a trial beyond the search space; None where nothing does."""
    if settings.custom_search_space is None:
        return None
    try:
        extend = get_method(settings.custom_search_space)
    except Exception as error:
        raise ConfigCompositionException(
            f"hydra.sweeper.custom_search_space={settings.custom_search_space}: {' '.join(str(error).split())}"
        ) from None
    return lambda trial: extend(program.config, trial)


def _slots(settings: SweepSettings, program: Program) -> Slots:
    HydraConfig.instance().set_config(program.config)
    if str(program.config.hydra.launcher._target_).startswith(LOCAL):
        return LocalWorkers(settings.n_jobs, settings.timeout_s, program)
    if settings.timeout_s is not None:
        raise ConfigCompositionException(
            "hydra.sweeper.timeout_s is for trials on this machine; this launcher has a time-out of its own"
        )
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=program.context, task_function=program.task_function, config=program.config
    )
    return LauncherThreads(settings.n_jobs, launcher)
