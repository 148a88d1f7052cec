"""A program whose jobs write down what Hydra has given them, and whose callback writes down when it is called."""

import json
import os
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.utils import get_original_cwd
from omegaconf import OmegaConf

CONFIG = {
    "defaults": ["_self_", {"engine": "petrol"}, {"override hydra/sweeper": "optuna_async"}],
    "x": 0.0,
    "doubled": "${multiply:2,${x}}",
    "name": "${hydra:job.override_dirname}",
    "answer": "${oc.env:SEEN_ANSWER,none}",
    "fails": False,
    "hydra": {
        "sweep": {"dir": "multirun/${hydra.sweeper.study_name}", "subdir": "${hydra.job.num}_${engine.name}"},
        "job": {"name": "seen", "chdir": True, "env_set": {"SEEN_ANSWER": "42"}, "env_copy": ["SEEN_COPIED"]},
        "job_logging": {"disable_existing_loggers": False},
        "callbacks": {"told": {"_target_": "seen_study.Told"}},
        "sweeper": {"n_jobs": 1, "n_trials": 2, "max_failure_rate": 1.0, "sampler": {"seed": 0}},
    },
}


class Told(Callback):
    def _note(self, name, config):
        with (Path(config.hydra.sweep.dir).absolute() / "told").open("a") as file:
            file.write(f"{name} {os.getpid() == int(os.environ['SEEN_SWEEP'])}\n")

    def on_multirun_start(self, config, **kwargs):
        Path(config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        self._note("multirun_start", config)

    def on_multirun_end(self, config, **kwargs):
        self._note("multirun_end", config)


def seen(cfg):
    job = HydraConfig.get()
    facts = {
        "num": job.job.num,
        "id": job.job.id,
        "mode": str(job.mode),
        "job name": job.job.name,
        "overrides": list(job.overrides.task),
        "folder": job.runtime.output_dir,
        "cwd": str(Path.cwd()),
        "original cwd": get_original_cwd(),
        "env": [os.environ.get("SEEN_ANSWER"), os.environ.get("SEEN_COPIED")],
        "config": OmegaConf.to_container(cfg, resolve=True),
        "argv": sys.argv,
    }
    Path("seen.json").write_text(json.dumps(facts))
    if cfg.fails:
        raise ValueError("as it was told to")
    return cfg.doubled


store = ConfigStore.instance()
store.store("seen", node=CONFIG)
for name in ("petrol", "electric"):
    store.store(group="engine", name=name, node={"name": name, "lr": 0.1})
main = hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="seen")(seen)
