"""What a run or a multirun says first, before torch, MLflow and Lightning take their seconds to be imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlip_sweep.multirun.names import parsed
from mlip_sweep.multirun.progress import grid_size, is_search
from optuna_async.config import direction_words


def of_run(cfg: DictConfig, folder: Path) -> str:
    """What is trained on what, and where: "NequIP on ethanol_xtb, 100 epochs, in outputs/2026-11-25_07-40-00".

    Args:
        cfg: The composed config of the run.
        folder: Of the run.
    """
    model = str(OmegaConf.select(cfg, "model._target_")).rpartition(".")[2]
    dataset = OmegaConf.select(cfg, "dataset.name")
    return f"{model} on {dataset}, {OmegaConf.select(cfg, 'trainer.max_epochs')} epochs, in {shown(folder)}"


def of_multirun(config: DictConfig) -> str:
    """How many runs there are as far as that is known, what varies, and where they go.

    Args:
        config: The whole config of the multirun, with its entry `hydra`.
    """
    sweeper = config.hydra.sweeper
    folder = f"in {shown(Path(config.hydra.sweep.dir))}"
    varied = ", ".join(_varied(sweeper.get("params") or {}, config.hydra.overrides.task))
    total = grid_size(config)
    if not is_search(config.hydra):
        number = "an unknown number of runs" if total is None else "one run" if total == 1 else f"{total} runs"
        return f"sweep: {number}{f' over {varied}' if varied else ''}, {folder}"
    sampler = str(OmegaConf.select(sweeper, "sampler._target_")).rpartition(".")[2].removesuffix("Sampler")
    chosen = OmegaConf.select(config, "objective")
    names = [chosen] if isinstance(chosen, str) else list(chosen or [])
    aims = [f"{word} {name}" for word, name in zip(direction_words(sweeper.direction), names, strict=False)]
    return (
        f"search by {sampler}: study {sweeper.study_name} up to {total} trials, {sweeper.n_jobs} at once, "
        + (f"to {', '.join(aims)}, " if aims else "")
        + (f"over {varied}, " if varied else "")
        + folder
    )


def shown(folder: Path) -> str:
    """A folder as a person knows it: from the current one where it lies inside."""
    return str(folder.relative_to(Path.cwd())) if folder.is_relative_to(Path.cwd()) else str(folder)


def _varied(params: Any, overrides: Sequence[str]) -> list[str]:
    """What varies: the keys of a search space, then those of the command line."""
    keys = [str(key) for key in params]
    return list(dict.fromkeys([*keys, *(one.key_or_group for one in parsed(overrides) if one.is_sweep_override())]))
