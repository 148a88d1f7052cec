"""Whether a search goes the way that its objective is meant."""

from omegaconf import DictConfig, OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.metrics import declaration_of
from optuna_async.config import TARGET, direction_words


def check_direction(config: DictConfig) -> None:
    """Refuse a search that would look for the worst.

    Args:
        config: of the multirun; one whose sweeper is no search passes.

    Raises:
        InputError: `hydra.sweeper.direction` goes against what the objective's measurement declares.
    """
    if config.hydra.sweeper.get("_target_") != TARGET:
        return
    from mlip_sweep.comparison.runs import declared_metrics  # torch takes seconds to import, and grids need none of it
    from mlip_sweep.measurement.chosen import declared_by, measurements_of

    chosen = OmegaConf.select(config, "objective")
    names = [chosen] if isinstance(chosen, str) else list(chosen or [])
    words = direction_words(config.hydra.sweeper.direction)
    own = measurements_of(config) if "measurement" in config else {}
    declared = (*declared_metrics(), *declared_by(own.values()))
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
