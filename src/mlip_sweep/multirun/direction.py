"""Which way an objective is meant, and whether a search goes that way."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric, declaration_of, more_is_better
from optuna_async.config import TARGET, direction_words


def objectives(config: DictConfig) -> list[str]:
    """Names of the metrics that the runs of a config return."""
    chosen = OmegaConf.select(config, "objective")
    return [chosen] if isinstance(chosen, str) else list(chosen or [])


def maximised(config: DictConfig, names: Sequence[str], declared: Sequence[Metric]) -> list[bool]:
    """Whether more is better, for each objective: as the study has it, or for a grid as each metric is declared."""
    if config.hydra.sweeper.get("_target_") != TARGET:
        return [more_is_better(name, declared) for name in names]
    return [word == "maximize" for word in direction_words(config.hydra.sweeper.direction)]


def declared_for(config: DictConfig) -> tuple[Metric, ...]:
    """What is known of the metrics that the runs of a config record."""
    from mlip_sweep.comparison.runs import declared_metrics  # PyTorch takes seconds to import
    from mlip_sweep.measurement.chosen import declared_by, measurements_of

    own = measurements_of(config) if "measurement" in config else {}
    return tuple(dict.fromkeys((*declared_metrics(), *declared_by(own.values()))))


def check_direction(config: DictConfig) -> None:
    """Refuse a search that would look for the worst.

    Args:
        config: of the multirun; one whose sweeper is no search passes.

    Raises:
        InputError: `hydra.sweeper.direction` goes against what the objective's measurement declares.
    """
    if config.hydra.sweeper.get("_target_") != TARGET:
        return
    names = objectives(config)
    words = direction_words(config.hydra.sweeper.direction)
    declared = declared_for(config)
    right = []
    for name, word in zip(names, words, strict=False):
        metric = declaration_of(name, declared)
        meant = {"higher": "maximize", "lower": "minimize"}.get(metric.better or "") if metric else None
        right.append(meant or word)
    if right != words[: len(right)]:
        remedy = right[0] if len(right) == 1 else f"[{', '.join(right)}]"
        raise InputError(
            f"hydra.sweeper.direction={', '.join(words)}: a search for the worst of {', '.join(names)}; set "
            f"hydra.sweeper.direction={remedy}"
        )
