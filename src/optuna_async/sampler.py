"""Samplers and pruners from their configs."""

from collections.abc import Callable
from importlib.util import find_spec
from math import prod
from typing import Any

import numpy as np
from hydra.errors import ConfigCompositionException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, BruteForceSampler, CmaEsSampler, GridSampler, QMCSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from optuna_async.space import Space

FIXED = "fixed_params"  # Optuna's own name for the parameters of a trial that were chosen beforehand


class Grid(GridSampler):
    """A grid for ask and tell: it leaves its end to the sweeper, where Optuna's raises outside of `optimize`."""

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Choose a point, and write it down as a whole at once, so that a trial killed from here on can be repeated."""
        super().before_trial(study, trial)
        chosen = study._storage.get_trial_system_attrs(trial._trial_id).get("grid_id")
        if chosen is not None:
            point = dict(zip(self._param_names, self._all_grids[chosen], strict=True))
            study._storage.set_trial_system_attr(trial._trial_id, FIXED, point)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Do nothing: the sweeper knows when the grid ends."""


def sampler_maker(config: Any, space: Space) -> tuple[Callable[[int], BaseSampler], int | None]:
    """A function from the number of a trial to the sampler that chooses its parameters, and the size of the whole.

    With a seed, every trial gets a sampler whose random numbers follow from the seed and the trial's number. A study
    that is taken up again, or shared by several processes, then neither repeats draws nor changes them. Optuna's
    samplers keep what they have learnt in the study, so that nothing is lost.

    Args:
        config: Config of the sampler, with `_target_`; keys of null are left to Optuna.
        space: The search space of the study.

    Returns:
        The function, and the number of points of a space that is tried whole; None where there is no such number.

    Raises:
        ConfigCompositionException: The sampler cannot be made.
    """
    chosen = _settings(config, "sampler")
    target = _target(chosen["_target_"])
    chosen.pop("_partial_", None)
    if target is GridSampler:
        if space.custom:
            raise ConfigCompositionException("hydra/sweeper/sampler=grid: custom_search_space has no grid")
        grid = Grid(space.grid(), seed=chosen.get("seed"))
        return lambda number: grid, len(grid._all_grids)
    if target is CmaEsSampler and find_spec("cmaes") is None:  # which Optuna finds out in the middle of a study only
        raise ConfigCompositionException("hydra/sweeper/sampler=cmaes needs the package cmaes: pip install cmaes")
    size = None
    if target is BruteForceSampler and not space.custom:
        size = prod(len(values) for values in space.grid().values())
    seed = chosen.pop("seed", None)
    if seed is None or target is QMCSampler:  # whose sequence is one for the whole study
        sampler = _instantiate({**chosen, **({} if seed is None else {"seed": seed})}, "sampler")
        return lambda number: sampler, size

    def seeded(number: int) -> BaseSampler:
        state = np.random.SeedSequence([int(seed), number]).generate_state(1)[0]
        return _instantiate({**chosen, "seed": int(state) % 2**31}, "sampler")

    seeded(0)  # so that wrong arguments are refused before the first trial
    return seeded, size


def make_pruner(config: Any) -> BasePruner:
    """A pruner from its config.

    Raises:
        ConfigCompositionException: The pruner cannot be made.
    """
    return _instantiate(_settings(config, "pruner"), "pruner")


def _settings(config: Any, what: str) -> dict[str, Any]:
    content = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else None
    if not isinstance(content, dict) or "_target_" not in content:
        raise ConfigCompositionException(f"hydra.sweeper.{what}={config}: give an entry with _target_")
    return {str(key): value for key, value in content.items() if value is not None}


def _target(name: str) -> Any:
    """The class of a sampler, or a function that makes one."""
    if name.endswith(".MOTPESampler"):
        raise ConfigCompositionException(
            "hydra/sweeper/sampler=motpe: Optuna has it no longer; its TPE takes several objectives, too: "
            "hydra/sweeper/sampler=tpe"
        )
    try:
        return get_object(name)
    except Exception as error:
        raise ConfigCompositionException(f"hydra.sweeper.sampler: {' '.join(str(error).split())}") from None


def _instantiate(settings: dict[str, Any], what: str) -> Any:
    try:
        return instantiate(settings)
    except Exception as error:  # Hydra wraps whatever a constructor raises
        cause = error.__cause__ or error
        line = " ".join(str(cause).split())
        raise ConfigCompositionException(f"hydra.sweeper.{what}={settings['_target_']}: {line}") from None
