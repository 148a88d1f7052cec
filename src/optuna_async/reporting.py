"""For the code that runs in a trial: the trial itself, to report intermediate values to, and to ask about pruning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna_async.config import study_of

if TYPE_CHECKING:
    import optuna


def running_trial(hydra_config: Any) -> "optuna.Trial | None":
    """The trial of the job that runs in this process, whichever process, host or launcher that is.

    `trial.report(value, step)` and `trial.should_prune()` go through the study's storage. A job that should be pruned
    raises `optuna.TrialPruned`.

    Args:
        hydra_config: `HydraConfig.get()`.

    Returns:
        None outside of a study, and in one that is kept in memory.
    """
    address = study_of(hydra_config)
    if address is None or address.storage is None:
        return None
    import optuna

    from optuna_async.sampler import make_pruner
    from optuna_async.storage import open_storage, study_id

    storage = open_storage(address)
    study = optuna.load_study(
        study_name=address.name,
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),  # has nothing to do
        pruner=make_pruner(hydra_config.sweeper.pruner),
    )
    trial_id = storage.get_trial_id_from_study_id_trial_number(study_id(study), int(hydra_config.job.num))
    return optuna.Trial(study, trial_id)


@dataclass(frozen=True)
class TrialReporter:
    """Reports a trial's intermediate values, and ends the trial where the study's pruner says so."""

    trial: "optuna.Trial"

    def __call__(self, value: float, step: int, *, more_is_better: bool, told: str) -> None:
        """Report a value.

        Args:
            value: Any quantity; its sign is turned where the study's objective is better in the other direction.
            step: The point of the training that the value belongs to, such as the epoch.
            more_is_better: Whether a larger value is the better one.
            told: Value and step as a person reads them, for the record of a trial that is pruned.

        Raises:
            optuna.TrialPruned: The trial is to be ended.
        """
        import optuna

        as_objective = more_is_better == (self.trial.study.direction == optuna.study.StudyDirection.MAXIMIZE)
        self.trial.report(value if as_objective else -value, step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(told)


def search_of(hydra_config: Any) -> TrialReporter | None:
    """The reporter of the job that runs in this process.

    Args:
        hydra_config: `HydraConfig.get()`.

    Returns:
        None outside of a study, and in one of several objectives, which Optuna cannot prune.
    """
    trial = running_trial(hydra_config)
    return TrialReporter(trial) if trial is not None and len(trial.study.directions) == 1 else None
