"""What a sweep over seeds costs from command to table: trainings that share a program beside trainings in processes.

    python benchmarks/sweeps.py                                    # eight seeds of the demo's NequIP and of its MACE
    python benchmarks/sweeps.py --architectures nequip --compile   # cohorts by torch.compile, beside joblib as it is

Both use two processes, `hydra/launcher=cohort` and `hydra/launcher=joblib`, on the same runs: training, landscape,
accuracy, dynamics, figures, records and the table at the end. They take turns, each in a fresh folder; labels and the
reference's own dynamics are in the cache from a run before. Times are wall times, medians with the least and the most
of the turns; the ratio is of one turn each. "runs" is from the start of the first run to the end of the last, as
recorded: what is left are imports, the plan, the comparison and the report. With --compile a sweep of cohorts goes
before, which fills torch's cache of kernels; its time is told.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cohorts import ratio, spread
from rich.console import Console
from rich.table import Table

from mlip_sweep.tracking.read import stored_runs

PROCESSES = 2
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={PROCESSES}"],
    "cohort": ["hydra/launcher=cohort", f"hydra.launcher.n_jobs={PROCESSES}"],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the runs' config, such as trainer.max_epochs=300")
    parser.add_argument("--architectures", nargs="+", default=["nequip", "mace"])
    parser.add_argument("--seeds", type=int, default=8, help="runs of a sweep (default %(default)s)")
    parser.add_argument("--compile", action="store_true", help="cohorts by torch.compile")
    parser.add_argument("--turns", type=int, default=2, help="sweeps of each launcher (default %(default)s)")
    given = parser.parse_args()
    table = Table(title=f"{given.seeds} seeds, from command to table")
    for column in ("model", "joblib, s", "of which runs", "cohort, s", "of which runs", "cohort / joblib", "of runs"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for architecture in given.architectures:
        fixed = [f"model={architecture}", "dataset.n_train=40", "trainer.max_epochs=150", "trainer.plateau_patience=15"]
        fixed += given.overrides
        sweep([*fixed, "seed=0", "trainer.max_epochs=1"])  # fills the cache
        jobs = [*fixed, f"seed=range({given.seeds})"]
        launchers = {name: list(options) for name, options in LAUNCHERS.items()}
        if given.compile:
            launchers["cohort"].append("trainer.compile=true")
            seconds, _ = sweep([*jobs, *launchers["cohort"]])
            Console().print(f"{architecture}: {seconds:.0f} s while kernels were compiled")
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in LAUNCHERS}
        for _ in range(given.turns):
            for name, launcher in launchers.items():
                times[name].append(sweep([*jobs, *launcher]))
        totals, runs = ({name: [one[part] for one in own] for name, own in times.items()} for part in (0, 1))
        cells = [spread(seconds[name], 0) for name in LAUNCHERS for seconds in (totals, runs)]
        ratios = [ratio(seconds["cohort"], seconds["joblib"]) for seconds in (totals, runs)]
        table.add_row(architecture, *cells, *ratios)
    Console().print(table)


def sweep(overrides: Sequence[str]) -> tuple[float, float]:
    """Seconds from the command to its end, and from the first run's start to the last one's end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).with_name("mlip-sweep")), "--multirun", *overrides]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
        runs = stored_runs(f"sqlite:///{folder}/mlflow.db", "mlip-sweep")
    ends = [run.ended for run in runs if run.ended is not None]
    return seconds, (max(ends) - min(run.started for run in runs)).total_seconds()


if __name__ == "__main__":
    main()
