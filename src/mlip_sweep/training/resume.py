"""Going on with an interrupted training: only ever with the one that left its checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.training.fit import LAST

GROUPS = ("dataset", "model", "rescaling", "optimizer", "averaging", "loss", "seeds")
TRAINER = ("dtype", "batch_size", "gradient_clip")
RECORD = "training.yaml"


def resuming(folder: Path, config: Mapping[str, Any], resume: bool) -> bool:
    """Whether a training in this folder goes on from a checkpoint; leaves a record of what is trained there.

    Args:
        folder: of the run.
        config: the resolved config.
        resume: `trainer.resume`.

    Raises:
        InputError: the checkpoint is of another training.
    """
    chosen = {group: config[group] for group in GROUPS} | {"trainer": {key: config["trainer"][key] for key in TRAINER}}
    record = folder / RECORD
    goes_on = resume and (folder / LAST).is_file()
    if goes_on and record.is_file():
        before, now = _flat(OmegaConf.to_container(OmegaConf.load(record))), _flat(chosen)
        changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        if changed:
            listed = ", ".join(f"{key}={before.get(key)} (now {now.get(key)})" for key in changed[:5])
            raise InputError(
                f"hydra.run.dir={folder}: its {LAST} is of a training with {listed}; choose another folder, or "
                "trainer.resume=false to start over"
            )
    folder.mkdir(parents=True, exist_ok=True)
    record.write_text(OmegaConf.to_yaml(OmegaConf.create(chosen)))
    return goes_on


def _flat(config: Any) -> dict[str, Any]:
    """Dotted names to values, compared as text: a list from YAML is the same as one from Hydra."""
    (flat,) = pd.json_normalize(config).to_dict("records")
    return {str(key): str(value) for key, value in flat.items()}
