"""The sweeper's keys, as `hydra/sweeper=optuna_async`, and the groups of samplers and pruners."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# What a study leaves in the sweep's folder.
RESULTS_FILE = "optimization_results.yaml"
TRIALS_FILE = "trials.csv"
PLOTS_FILE = "study.html"
RESULT_FILES = (RESULTS_FILE, TRIALS_FILE, PLOTS_FILE)

TARGET = "hydra_plugins.optuna_async_sweeper.optuna_async_sweeper.OptunaAsyncSweeper"

# A key of null is not handed on, so that Optuna's own default holds. Any other key can be added with a plus.
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "n_startup_trials": None,
        "n_ei_candidates": None,
        "multivariate": None,
        "group": None,
        "constant_liar": None,
    },
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "grid": {"_target_": "optuna.samplers.GridSampler"},
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": None, "deterministic_objective": None},
    "nsgaii": {
        "_target_": "optuna.samplers.NSGAIISampler",
        "population_size": None,
        "mutation_prob": None,
        "crossover_prob": None,
        "swapping_prob": None,
    },
    "cmaes": {  # needs the package cmaes
        "_target_": "optuna.samplers.CmaEsSampler",
        "sigma0": None,
        "n_startup_trials": None,
        "restart_strategy": None,
        "with_margin": None,
        "consider_pruned_trials": None,
    },
}
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"_target_": "optuna.pruners.NopPruner"},
    "median": {
        "_target_": "optuna.pruners.MedianPruner",
        "n_startup_trials": None,
        "n_warmup_steps": None,
        "interval_steps": None,
    },
    "successive_halving": {
        "_target_": "optuna.pruners.SuccessiveHalvingPruner",
        "min_resource": None,
        "reduction_factor": None,
    },
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": None,
        "max_resource": None,
        "reduction_factor": None,
    },
}


def direction_words(direction: Any) -> list[str]:
    """A direction or a list of them, Direction.minimize too, as plain words."""
    given = [direction] if isinstance(direction, str) else list(direction or [])
    return [str(word).rpartition(".")[2].lower() for word in given]


@dataclass
class OptunaAsyncSweeperConf:
    """Keys of `hydra.sweeper`; those of hydra-optuna-sweeper mean what they mean there."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "none"}])
    _target_: str = TARGET
    _recursive_: bool = False  # sampler and pruner are made when the study is known
    sampler: Any = MISSING
    pruner: Any = MISSING
    direction: Any = "minimize"  # or maximize, or a list of them, one for each objective
    # A database URL, a journal (journal:///path, or a file that ends in .log), an entry with _target_; null: in memory.
    storage: Any = "sqlite:///optuna.db"
    study_name: str | None = "${hydra.job.config_name}"
    n_trials: int = 20  # in total, over all starts
    n_jobs: int = 2  # trials at once
    max_failure_rate: float = 0.5  # the share of n_trials that may fail before the study stops
    timeout_s: float | None = None  # of one trial, for trials on this machine
    params: dict[str, Any] = field(default_factory=dict)
    custom_search_space: str | None = None  # dotted name of a function (config, trial) -> None


store = ConfigStore.instance()
store.store(group="hydra/sweeper", name="optuna_async", node=OptunaAsyncSweeperConf, provider="optuna_async_sweeper")
for group, choices in (("sampler", SAMPLERS), ("pruner", PRUNERS)):
    for name, node in choices.items():
        seeded = {"seed": None} if group == "sampler" else {}
        store.store(group=f"hydra/sweeper/{group}", name=name, node={**node, **seeded}, provider="optuna_async_sweeper")
