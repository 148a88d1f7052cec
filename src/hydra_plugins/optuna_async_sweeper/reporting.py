"""For the code that runs in a trial: the trial itself, to report intermediate values to, and to ask for pruning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.types import RunMode

from hydra_plugins.optuna_async_sweeper.config import TARGET

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
    sweeper = hydra_config.sweeper
    if hydra_config.mode != RunMode.MULTIRUN or sweeper.get("_target_") != TARGET or sweeper.storage is None:
        return None
    import optuna

    from hydra_plugins.optuna_async_sweeper._sampler import make_pruner
    from hydra_plugins.optuna_async_sweeper._storage import open_storage, study_id

    storage = open_storage(sweeper.storage, hydra_config.runtime.cwd)
    study = optuna.load_study(
        study_name=sweeper.study_name or str(hydra_config.job.name),
        storage=storage,
        sampler=optuna.samplers.RandomSampler(),  # has nothing to do
        pruner=make_pruner(sweeper.pruner),
    )
    number = storage.get_trial_id_from_study_id_trial_number(study_id(study), int(hydra_config.job.num))
    return optuna.Trial(study, number)


@dataclass(frozen=True)
class Search:
    """Hears of a trial's intermediate values, and gives the trial up where the study's pruner says so."""

    trial: "optuna.Trial"

    def __call__(self, value: float, step: int, *, more_is_better: bool, told: str) -> None:
        """Report a value.

        Args:
            value: whatever is watched; its sign is turned where the study's objective is meant the other way.
            step: such as the epoch.
            more_is_better: how the value is meant.
            told: value and step as a person reads them, for the record of a trial that is given up.

        Raises:
            optuna.TrialPruned: the trial is to be given up.
        """
        import optuna

        as_objective = more_is_better == (self.trial.study.direction == optuna.study.StudyDirection.MAXIMIZE)
        self.trial.report(value if as_objective else -value, step)
        if self.trial.should_prune():
            raise optuna.TrialPruned(told)


def search_of(hydra_config: Any) -> Search | None:
    """The search that a job belongs to; None outside of one, and where several objectives leave nothing to prune by."""
    trial = running_trial(hydra_config)
    return Search(trial) if trial is not None and len(trial.study.directions) == 1 else None
