"""What a guided search gains over a random one, at equal trials: TPE against random sampling, several seeds.

python benchmarks/search.py [--seeds 4] [--trials 16] [--epochs 30] [--jobs 8] [--folder FOLDER]

Both search the space of sweeps/entropy_search.yaml for the highest loss entropy S, on smaller trainings. A seed is one
search of each; searches are real sweeps, kept in a folder, so that the command goes on where it was. Gains are paired
by seed, with a 95 % interval by Student's t. TPE's first ten trials are random, and those of random sampling itself.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.table import Table
from scipy import stats

SAMPLERS = ("tpe", "random")
TOLERANCE = 0.01  # of S, as it is evaluated
NOT_MEASURED = ("accuracy", "stability", "sharpness", "bond_scans", "inference_time")  # S alone is looked for


def main() -> None:
    """Run what is missing, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="searches of each sampler (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=16, help="of a search (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="of a training (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=8, help="trials of TPE at once (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("search_benchmark"), help="(default: %(default)s)")
    chosen = parser.parse_args()
    chosen.folder.mkdir(exist_ok=True)
    best = {
        sampler: np.array([search(sampler, seed, chosen) for seed in range(chosen.seeds)]) for sampler in SAMPLERS
    }  # (seeds, trials), the best S so far
    Console().print(table(best, chosen.trials))


def search(sampler: str, seed: int, chosen: argparse.Namespace) -> np.ndarray:
    """One search; the best S after each trial, (trials,)."""
    name = f"{sampler}_{seed}"
    command = [str(Path(sys.executable).with_name("mlip-sweep")), "--config-name=entropy_search"]
    command += [f"hydra.sweeper.study_name={name}", f"hydra/sweeper/sampler={sampler}"]
    command += [f"hydra.sweeper.sampler.seed={seed}", f"hydra.sweeper.n_trials={chosen.trials}"]
    at_once = chosen.jobs if sampler == "tpe" else chosen.trials  # random ones wait for nothing
    command += [
        "hydra.launcher.n_jobs=2",
        f"hydra.sweeper.n_jobs={at_once}",
        f"trainer.max_epochs={chosen.epochs}",
        "dataset.n_train=20",
    ]
    command += [f"measurement.{name}=null" for name in NOT_MEASURED]
    with (chosen.folder / f"{name}.log").open("a") as log:
        subprocess.run(command, cwd=chosen.folder, stdout=log, stderr=log, check=True)
    study = optuna.load_study(study_name=name, storage=f"sqlite:///{chosen.folder.absolute()}/optuna.db")
    values = [trial.value for trial in study.trials if trial.state == TrialState.COMPLETE]
    return np.maximum.accumulate(values)[: chosen.trials]


def table(best: dict[str, np.ndarray], trials: int) -> Table:
    """Means over seeds, and the paired gain, as the searches go on."""
    shown = Table(title="highest S found, mean over seeds ± standard error", title_justify="left")
    for heading in ("after trials", *SAMPLERS, "gain of tpe [95 %]", "seeds won"):
        shown.add_column(heading, justify="right")
    for n in sorted({trials // 4, trials // 2, trials}):
        found = {sampler: values[:, n - 1] for sampler, values in best.items()}
        gain = found["tpe"] - found["random"]
        margin = stats.t.ppf(0.975, len(gain) - 1) * stats.sem(gain)
        interval = f"[{gain.mean() - margin:+.2f}, {gain.mean() + margin:+.2f}]"
        cells = [f"{values.mean():.2f} ± {stats.sem(values):.2f}" for values in found.values()]
        won = f"{int((gain > TOLERANCE).sum())} of {len(gain)}"
        shown.add_row(str(n), *cells, f"{gain.mean():+.2f} {interval}", won)
    return shown


if __name__ == "__main__":
    main()
