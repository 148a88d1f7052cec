"""An objective that costs nothing, with every way to fail; a script, and a module whose `main` tests call."""

import os
import signal
import time
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

CONFIG = {
    "defaults": ["_self_", {"override hydra/sweeper": "optuna_async"}],
    "x": 0.0,
    "y": 0.0,
    "kind": "ok",
    "objectives": 1,
    "waits_for": None,  # trials that must have ended before trial 0 can
    "hydra": {
        "sweep": {"dir": "multirun/${hydra.sweeper.study_name}", "subdir": "${hydra.job.num}"},
        "output_subdir": None,
        "job_logging": {"disable_existing_loggers": False},
        "sweeper": {"study_name": "toy", "n_jobs": 1, "max_failure_rate": 1.0},
    },
}


class OutOfMemoryError(RuntimeError):
    """As torch.cuda has one."""


def objective(cfg):
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    with (folder / "launches").open("a") as file:
        file.write(f"{os.getpid()}\n")
    misbehave(cfg.kind, folder)
    if cfg.waits_for and job.job.num == 0:
        while not all((folder.parent / str(other) / "done").exists() for other in range(1, cfg.waits_for)):
            time.sleep(0.05)
    (folder / "done").touch()
    value = (cfg.x - 0.3) ** 2
    return value if cfg.objectives == 1 else (value, (cfg.x - 0.7) ** 2 + cfg.y)


def misbehave(kind, folder):
    match kind:
        case "raises":
            raise ValueError("a bad value")
        case "runs_out":
            raise MemoryError("no memory")
        case "gpu_runs_out":
            raise OutOfMemoryError("CUDA")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs" | "hangs_once" if kind == "hangs" or not (folder.parent / "go").exists():
            (folder / "hanging").touch()
            time.sleep(600)
        case "prunes":
            from optuna_async.reporting import search_of

            search = search_of(HydraConfig.get())
            for step in range(5):
                search(float(search.trial.number), step, more_is_better=False, told=f"at step {step}")


def spoiled(cfg):
    """An objective that returns what cannot be used."""
    returned = {"is_nan": float("nan"), "is_inf": float("inf"), "pair": (1.0, 2.0), "word": "word", "none": None}
    return returned[cfg.kind] if cfg.kind in returned else objective(cfg)


def more(cfg, trial):
    """A custom search space: y only where x is large, no larger than what the command line says."""
    if trial.params["x"] > 0.5:
        trial.suggest_float("y", 0.0, float(trial.user_attrs["objectives"]))


ConfigStore.instance().store("toy", node=CONFIG)
main = hydra.main(version_base="1.3", config_path=str(Path(__file__).parent), config_name="toy")(spoiled)

if __name__ == "__main__":
    main()
