"""What a run costs beside the model's own work, and what a search costs beside its trainings.

    python benchmarks/overhead.py                               # the demo's NequIP, and a search of twelve trials
    python benchmarks/overhead.py model=mace --trials 0         # overrides as of `mlip-sweep`; no search
    python benchmarks/overhead.py --demo --trials 0             # each of the demo's eight runs, once

Run: one of the demo, with the labels and the reference's own dynamics in the cache. Time is the model's inside a
training step (forward, backward, clipping, update) or an evaluation of energies and forces (validation, landscape,
accuracy, dynamics), and overhead everywhere else: data, neighbour lists, integration, Lightning, MLflow, figures,
checkpoints. Imports are a line of their own, since a process of a sweep does them once. On a machine that others use
too, `--clock cpu` tells more: the processor's time in the main thread, without waits.

Search: minimal trainings through `hydra/sweeper=optuna_async`, one after another in one process, by the wall's clock.
Between trials the sweeper asks and tells, and Hydra composes the job; within one, all but data, model, training and
saving is the record in MLflow.
"""

import argparse
import logging
import multiprocessing
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from mlip_sweep.metrics import wall_time

Seconds = dict[tuple[str, str], float]
CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}
PARTS = {"data": "data", "model": "building the model", "training": "training", "saving": "logging the model"}
GRID = {"model": ("nequip", "mace"), "rescaling": ("none", "forces_rms"), "averaging": ("none", "swa")}
DEMO = [[f"{name}={value}" for name, value in zip(GRID, choice, strict=True)] for choice in product(*GRID.values())]
OVERHEAD = {
    "record": "record of the run in MLflow",
    "between": "between runs: ask and tell, composition, checks",
    "overhead": "record and between",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the demo's config, such as model=mace averaging=swa")
    parser.add_argument("--repeats", type=int, default=2, help="runs that are timed (default %(default)s)")
    parser.add_argument("--demo", action="store_true", help="the demo's eight runs, one repeat of each")
    parser.add_argument("--trials", type=int, default=12, help="of the search; 0 for none (default %(default)s)")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of the run (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order of batches")
    given = parser.parse_args()
    console = Console()
    overrides = [*given.overrides, f"seed={given.seed}", "trainer.progress=false"]
    runs = [[*overrides, *choice] for choice in DEMO] if given.demo else [overrides] * given.repeats
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        imports, seconds = fresh.submit(timed_runs, runs, given.clock, Path(folder)).result()
        console.print(*run_summary(imports, seconds), sep="\n")
        if given.demo:
            console.print(
                *(f"{' '.join(choice)}: {share(one):.1%}" for choice, one in zip(DEMO, seconds, strict=True)), sep="\n"
            )
    if given.trials:
        with tempfile.TemporaryDirectory() as folder:
            console.print(*search_summary(*search(given.trials, given.seed, Path(folder))), sep="\n")


def timed_runs(runs: list[list[str]], clock: str, folder: Path) -> tuple[float, list[Seconds]]:
    """In a fresh process: seconds of imports, and of each run by phase; a short run before fills the caches."""
    start = CLOCKS[clock]()
    from hydra import compose, initialize_config_dir
    from stopwatch import Stopwatch, watched

    from mlip_sweep.config import config_folder
    from mlip_sweep.run.run import run

    imports = CLOCKS[clock]() - start
    logging.getLogger("mlip_sweep").setLevel(logging.ERROR)  # the short run's measurements have much to remark
    found = []
    for repeat, overrides in enumerate([[*runs[0], "trainer.max_epochs=2"], *runs]):
        uri = f"tracking.uri=sqlite:///{folder}/mlflow.db"
        with initialize_config_dir(str(config_folder("conf")), version_base="1.3"):
            cfg = compose("quickstart", [uri, *overrides])
        watch = Stopwatch("set-up and end", CLOCKS[clock])
        with watched(watch):
            run(cfg, folder / str(repeat))
        watch.note()
        found.append(dict(watch.seconds))
    return imports, found[1:]


def run_summary(imports: float, repeats: list[Seconds]) -> tuple[Table, str]:
    """The table, and the share in one line."""
    from stopwatch import MODEL, REST

    table = Table(title=f"one run of the demo, s (mean of {len(repeats)})")
    table.add_column("phase")
    for column in ("model", "overhead", "overhead / run"):
        table.add_column(column, justify="right")
    mean = pd.DataFrame(repeats).fillna(0.0).mean()
    mean.index = pd.MultiIndex.from_tuples(mean.index)  # phase and kind
    for phase in mean.groupby(level=0).sum().sort_values(ascending=False).index:
        model, rest = (float(mean.get((phase, kind), 0.0)) for kind in (MODEL, REST))
        table.add_row(phase, f"{model:.2f}" if model else "", f"{rest:.2f}", f"{rest / mean.sum():.1%}")
    table.add_section()
    model, rest = (mean.xs(kind, level=1).sum() for kind in (MODEL, REST))
    table.add_row("whole run", f"{model:.2f}", f"{rest:.2f}", f"{rest / mean.sum():.1%}")
    table.add_row("imports, once a process", "", f"{imports:.2f}", "")
    shares = [share(run) for run in repeats]
    return table, f"overhead: {rest / (model + rest):.1%} of a run ({min(shares):.1%} … {max(shares):.1%})\n"


def share(run: Seconds) -> float:
    """What stands beside the model's work, as a part of the whole."""
    from stopwatch import REST

    return sum(s for (_, kind), s in run.items() if kind == REST) / sum(run.values())


def search(trials: int, seed: int, folder: Path) -> tuple[pd.DataFrame, float]:
    """Seconds of each trial but the first by part, one row a trial, and of the whole command outside its trials."""
    store = f"sqlite:///{folder}/mlflow.db"
    command = [
        *(str(Path(sys.executable).with_name("mlip-sweep")), "--multirun", "hydra/sweeper=optuna_async"),
        *(f"hydra.sweep.dir={folder}/search", "hydra.sweeper.study_name=overhead", "hydra.sweeper.n_jobs=1"),
        *(f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.storage=sqlite:///{folder}/optuna.db"),
        *(f"hydra.sweeper.sampler.seed={seed}", "optimizer.lr=interval(0.001,0.01)", f"tracking.uri={store}"),
        *("dataset.n_train=5", "trainer=cpu", "trainer.max_epochs=1", "trainer.progress=false", "measurement=none"),
        "objective=validation/loss",
    ]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    seconds = time.perf_counter() - start

    from mlflow.tracking import MlflowClient

    client = MlflowClient(store)
    (experiment,) = client.search_experiments(filter_string="name = 'mlip-sweep'")
    found = client.search_runs([experiment.experiment_id], order_by=["start_time ASC"])
    runs = [run for run in found if "mlflow.parentRunId" in run.data.tags]
    starts, ends = (np.array([getattr(run.info, name) for run in runs]) / 1000.0 for name in ("start_time", "end_time"))
    parts = pd.DataFrame([{name: run.data.metrics[wall_time(name)] for name in PARTS} for run in runs])
    parts["record"] = ends - starts - parts.sum(axis=1)
    parts["between"] = np.append(np.nan, starts[1:] - ends[:-1])
    return parts[1:], seconds - (ends[-1] - starts[0])


def search_summary(parts: pd.DataFrame, outside: float) -> tuple[Table, str]:
    """The table, and the overhead of a trial in one line."""
    table = Table(title=f"a trial of a search, s ({len(parts)} trials, without the first)")
    table.add_column("part")
    for column in ("median", "least", "most"):
        table.add_column(column, justify="right")
    parts["overhead"] = parts["between"] + parts["record"]
    for name, meaning in {**PARTS, **OVERHEAD}.items():
        table.add_row(meaning, *(f"{value:.2f}" for value in parts[name].quantile([0.5, 0.0, 1.0])))
    low, middle, high = parts["overhead"].quantile([0.0, 0.5, 1.0])
    return table, (
        f"overhead: {middle:.2f} s a trial ({low:.2f} … {high:.2f}); a search takes {outside:.1f} s to start and to end"
    )


if __name__ == "__main__":
    main()
