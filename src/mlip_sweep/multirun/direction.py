"""Which way an objective is meant, and whether a search goes that way."""

from collections.abc import Sequence

from omegaconf import DictConfig, OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric, declaration_of, more_is_better
from optuna_async.config import direction_words


def objectives(config: DictConfig) -> list[str]:
    """Names of the metrics that the runs of a config return."""
    chosen = OmegaConf.select(config, "objective")
    return [chosen] if isinstance(chosen, str) else list(chosen or [])


def maximised(config: DictConfig, names: Sequence[str], declared: Sequence[Metric]) -> list[bool]:
    """Whether more is better, for each objective: as the study has it, or for a grid as each metric is declared."""
    words = _directions(config)
    return [word == "maximize" for word in words] or [more_is_better(name, declared) for name in names]


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
    names, words = objectives(config), _directions(config)
    if not names or not words:
        return
    if len(names) != len(words):
        raise InputError(
            f"hydra.sweeper.direction={', '.join(words)}: give one for each objective ({', '.join(names)})"
        )
    declared = declared_for(config)
    right = []
    for name, word in zip(names, words, strict=True):
        metric = declaration_of(name, declared)
        meant = {"higher": "maximize", "lower": "minimize"}.get(metric.better or "") if metric else None
        right.append(meant or word)
    if right != words:
        remedy = right[0] if len(right) == 1 else f"[{', '.join(right)}]"
        raise InputError(
            f"hydra.sweeper.direction={', '.join(words)}: a search for the worst of {', '.join(names)}; set "
            f"hydra.sweeper.direction={remedy}"
        )


def _directions(config: DictConfig) -> list[str]:
    """Which way a search goes, "minimize" or "maximize" for each objective; nothing for a sweeper that has no way.

    Optuna's sweepers have the key `direction`, whoever has written them, and all of them minimise by default.
    """
    return direction_words(config.hydra.sweeper.get("direction"))
