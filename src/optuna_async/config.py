"""The keys of `hydra/sweeper=optuna_async`, its groups of samplers and pruners, and the address of a study."""

import re
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import MISSING, DictConfig

# What a study leaves in the sweep's folder.
RESULTS_FILE = "optimization_results.yaml"
TRIALS_FILE = "trials.csv"
PLOTS_FILE = "study.html"
RESULT_FILES = (RESULTS_FILE, TRIALS_FILE, PLOTS_FILE)

# The class that Hydra instantiates; it stands in the config of every job, by which a job knows that it is a trial.
TARGET = "hydra_plugins.optuna_async_sweeper.optuna_async_sweeper.OptunaAsyncSweeper"

# Keys of Optuna's classes with Optuna's own defaults, so that any sweeper that shares these groups can use them. Other
# keys can be added with a plus; one of null is not handed on.
SAMPLERS: dict[str, dict[str, Any]] = {
    "tpe": {
        "_target_": "optuna.samplers.TPESampler",
        "consider_prior": None,
        "prior_weight": None,
        "consider_magic_clip": None,
        "consider_endpoints": None,
        "n_startup_trials": 10,
        "n_ei_candidates": 24,
        "multivariate": None,
        "group": False,
        "constant_liar": True,
    },
    "random": {"_target_": "optuna.samplers.RandomSampler"},
    "grid": {"_target_": "optuna.samplers.GridSampler", "_partial_": True},  # its space is known to the sweeper only
    "brute_force": {"_target_": "optuna.samplers.BruteForceSampler", "avoid_premature_stop": False},
    "gp": {"_target_": "optuna.samplers.GPSampler", "n_startup_trials": 10, "deterministic_objective": False},
    "qmc": {"_target_": "optuna.samplers.QMCSampler", "qmc_type": "sobol", "scramble": False},
    "nsgaii": {
        "_target_": "optuna.samplers.NSGAIISampler",
        "population_size": 50,
        "mutation_prob": None,
        "crossover_prob": 0.9,
        "swapping_prob": 0.5,
    },
    "nsgaiii": {
        "_target_": "optuna.samplers.NSGAIIISampler",
        "population_size": 50,
        "mutation_prob": None,
        "crossover_prob": 0.9,
        "swapping_prob": 0.5,
        "dividing_parameter": 3,
    },
    "cmaes": {  # needs the package cmaes
        "_target_": "optuna.samplers.CmaEsSampler",
        "sigma0": None,
        "n_startup_trials": 1,
        "restart_strategy": None,
        "with_margin": False,
        "consider_pruned_trials": False,
    },
    "motpe": {"_target_": "optuna.samplers.MOTPESampler"},  # is answered by what has taken its place
}
PRUNERS: dict[str, dict[str, Any]] = {
    "none": {"_target_": "optuna.pruners.NopPruner"},
    "median": {
        "_target_": "optuna.pruners.MedianPruner",
        "n_startup_trials": 5,
        "n_warmup_steps": 0,
        "interval_steps": 1,
    },
    "successive_halving": {
        "_target_": "optuna.pruners.SuccessiveHalvingPruner",
        "min_resource": "auto",
        "reduction_factor": 4,
    },
    "hyperband": {
        "_target_": "optuna.pruners.HyperbandPruner",
        "min_resource": 1,
        "max_resource": "auto",
        "reduction_factor": 3,
    },
}

# The password of an URL: before the host, or as a parameter.
_PASSWORD = re.compile(r"(?<=//)([^/\s:@]*):\S+(?=@)|(?<=[?&])(password)=[^&\s]+", re.IGNORECASE)


@dataclass
class OptunaAsyncSweeperConf:
    """The keys of `hydra.sweeper` with their defaults; those of hydra-optuna-sweeper mean what they mean there."""

    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}, {"pruner": "none"}])
    _target_: str = TARGET
    _recursive_: bool = False  # sampler and pruner are made when the study is known
    sampler: Any = MISSING
    pruner: Any = MISSING
    direction: Any = "minimize"
    storage: Any = "sqlite:///optuna.db"
    study_name: str | None = "${hydra.job.config_name}"
    n_trials: int = 20
    n_jobs: int = 2
    max_failure_rate: float = 0.5
    timeout_s: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    custom_search_space: str | None = None


@dataclass(frozen=True)
class SweepSettings:
    """The keys of `hydra.sweeper` as a sweep gets them.

    Args:
        sampler: Config of an Optuna sampler.
        pruner: Config of an Optuna pruner.
        direction: "minimize" or "maximize", or a list of them, one for each objective.
        storage: Where the study is kept: a database URL, a journal (`journal:///path`, or a file that ends in .log), a
            config with `_target_`, or None for the memory of this process.
        study_name: Name of the study in its storage; the name of Hydra's job where it is None.
        n_trials: Total number of trials of the study, those of earlier starts included.
        n_jobs: Number of trials that run at once.
        max_failure_rate: Share of `n_trials` that may fail before the study stops.
        timeout_s: Longest time of one trial on this machine, s; None for no limit.
        params: The search space: parameter to a sweep in Hydra's override language, or to a fixed value.
        custom_search_space: Dotted name of a function `(config, trial)` that suggests more parameters.
    """

    sampler: Any
    pruner: Any
    direction: Any
    storage: Any
    study_name: str | None
    n_trials: int
    n_jobs: int
    max_failure_rate: float
    timeout_s: float | None
    params: Any
    custom_search_space: str | None


@dataclass(frozen=True)
class Program:
    """The Hydra program that is swept, as Hydra hands it to a sweeper."""

    context: HydraContext
    task_function: TaskFunction
    config: DictConfig


@dataclass(frozen=True)
class StudyAddress:
    """Where a study is kept, and under which name.

    Attributes:
        storage: As in `SweepSettings`.
        name: The study's name in that storage.
        folder: Where a relative path of the storage begins.
    """

    storage: Any
    name: str
    folder: str


def study_of(hydra_config: Any) -> StudyAddress | None:
    """The study that a multirun, or one of its jobs, belongs to.

    Args:
        hydra_config: `HydraConfig.get()`, or the entry `hydra` of a whole config.

    Returns:
        None for a single run, and for a multirun by another sweeper.
    """
    sweeper = hydra_config.sweeper
    if hydra_config.mode != RunMode.MULTIRUN or sweeper.get("_target_") != TARGET:
        return None
    name = sweeper.study_name or str(hydra_config.job.name)
    return StudyAddress(sweeper.storage, name, str(hydra_config.runtime.cwd))


def without_passwords(text: str) -> str:
    """A text whose URLs have `***` in the place of each password, as in `postgresql://ada:***@host/studies`."""
    return _PASSWORD.sub(lambda found: f"{found[1]}:***" if found[2] is None else f"{found[2]}=***", text)


def direction_words(direction: Any) -> list[str]:
    """A direction or a list of them, `Direction.minimize` too, as plain words."""
    given = [direction] if isinstance(direction, str) else list(direction or [])
    return [str(word).rpartition(".")[2].lower() for word in given]


def register() -> None:
    """Tell Hydra of the sweeper's config, and of its groups of samplers and pruners."""
    store = ConfigStore.instance()
    provider = "optuna_async_sweeper"
    store.store(group="hydra/sweeper", name="optuna_async", node=OptunaAsyncSweeperConf, provider=provider)
    for name, node in SAMPLERS.items():
        store.store(group="hydra/sweeper/sampler", name=name, node={**node, "seed": None}, provider=provider)
    for name, node in PRUNERS.items():
        store.store(group="hydra/sweeper/pruner", name=name, node=node, provider=provider)
