"""Speed of training beside the libraries' own trainers: the same model, data, batches, optimiser and precision.

    python benchmarks/training.py                               # ethanol by GFN2-xTB, the demo's models
    python benchmarks/training.py --xyz train_300K.xyz          # other molecules
    python benchmarks/training.py model.num_features=32         # overrides as of `mlip-sweep`

A step is the time from the end of one optimiser step to the end of the next within an epoch: loading and joining the
batch, forward and backward, clipping, logging, the update. What lies between the last step of one epoch and the first
of the next (validation, checkpoints), start-up, and the first epochs, in which TorchScript compiles, are left out for
all alike. Trainers take turns, A B A B, each in a process of its own that stays. CPU time is told beside the clock's,
since other work on the same machine takes no part in it.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import ase
import ase.io
import numpy as np
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table
from trainers import PEERS, Task, Timing, timed

from mlip_sweep.config import config_folder, make
from mlip_sweep.data.frames import Frame


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run's config, such as optimizer=adam trainer=gpu")
    parser.add_argument("--architectures", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--xyz", type=Path, help="training frames from a file that ASE reads, instead of ethanol")
    parser.add_argument("--frames", type=int, default=40, help="training frames (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="of each training (default %(default)s)")
    parser.add_argument("--skip", type=int, default=5, help="first epochs that are not timed (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="trainings of each trainer (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and of the order of batches")
    given = parser.parse_args()
    console = Console()
    for architecture in given.architectures:
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(given, architecture, Path(folder))
            names = ("mlip-sweep", PEERS[architecture])
            timings = alternate(names, task, given.repeats, given.threads)
        per_epoch = -(-len(task.dataset.train) // task.config["trainer"]["batch_size"])
        steps = {name: [step_times(t, per_epoch, given.skip) for t in timings[name]] for name in names}
        parameters = [timings[name][0].parameters for name in names]
        console.print(*summary(architecture, task, steps, parameters), sep="\n")


def make_task(given: argparse.Namespace, architecture: str, folder: Path) -> Task:
    """Compose the config, get the frames, and write them for the peers."""
    data = ["dataset=extxyz", f"dataset.train={given.xyz.resolve()}"] if given.xyz else ["dataset=ethanol_xtb"]
    fixed = [f"model={architecture}", *data, f"dataset.n_train={given.frames}", f"seed={given.seed}", "trainer=cpu"]
    fixed += [f"trainer.max_epochs={given.epochs}", "trainer.progress=false", "trainer.resume=false"]
    with initialize_config_dir(str(config_folder("conf")), version_base=None):
        cfg = compose("run", [*fixed, *given.overrides])
    dataset = make(cfg.dataset, "dataset")
    for name, frames in (("train", dataset.train), ("validation", dataset.validation)):
        ase.io.write(folder / f"{name}.xyz", [atoms_of(frame) for frame in frames], format="extxyz")
    return Task(OmegaConf.to_container(cfg, resolve=True), dataset, folder, given.seed)


def atoms_of(frame: Frame) -> ase.Atoms:
    """A frame for the peers, labelled under names of each one's liking."""
    atoms = ase.Atoms(frame.atomic_numbers, frame.positions, cell=frame.cell, pbc=frame.pbc)
    atoms.info |= {"energy_label": frame.energy}
    atoms.arrays["forces_label"] = frame.forces
    return atoms


def alternate(names: Sequence[str], task: Task, repeats: int, threads: int) -> dict[str, list[Timing]]:
    """Every trainer in turn, `repeats` times, each in its own lasting process."""
    spawn = multiprocessing.get_context("spawn")
    timings: dict[str, list[Timing]] = {name: [] for name in names}
    with ExitStack() as stack:
        pools = {
            name: stack.enter_context(
                ProcessPoolExecutor(1, spawn, initializer=silence, initargs=(task.folder / name,))
            )
            for name in names
        }
        turns = [name for _ in range(repeats) for name in names]
        for name in track(turns, description=" and ".join(names), transient=True):
            timings[name].append(pools[name].submit(timed, name, task, threads).result())
    return timings


def silence(log: Path) -> None:
    """What a trainer prints goes to a file."""
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def step_times(timing: Timing, per_epoch: int, skip: int) -> NDArray[np.float64]:
    """Of each step but the first of an epoch, epochs from `skip` on, (steps, 2): milliseconds by the clock, of CPU."""
    ends = np.array(timing.ends).reshape(-1, per_epoch, 2)[skip:]
    return 1000.0 * np.diff(ends, axis=1).reshape(-1, 2)


def summary(
    architecture: str, task: Task, steps: Mapping[str, Sequence[NDArray[np.float64]]], parameters: Sequence[int]
) -> tuple[Table, str]:
    """The table, and the ratio in one line."""
    data, trainer = task.dataset, task.config["trainer"]
    work = f"{len(data.train[0])} atoms, {len(data.train)} frames, batch {trainer['batch_size']}, {trainer['dtype']}"
    table = Table(title=f"{architecture}: {data.name}, {work}, seed {task.seed}")
    table.add_column("trainer")
    for column in ("parameters", "steps", "ms/step", "repeats", "CPU ms", "steps/s"):
        table.add_column(column, justify="right", no_wrap=True)
    medians = {name: np.array([np.median(one, axis=0) for one in repeats]) for name, repeats in steps.items()}
    for (name, each), size in zip(medians.items(), parameters, strict=True):
        clock, cpu = np.median(each, axis=0)
        spread = f"{each[:, 0].min():.1f} … {each[:, 0].max():.1f}"
        counted = sum(map(len, steps[name]))
        table.add_row(name, f"{size:,}", f"{counted}", f"{clock:.1f}", spread, f"{cpu:.1f}", f"{1000.0 / clock:.1f}")
    own, peer = medians.values()
    by_clock, by_cpu = (peer / own).T
    return table, (
        f"{architecture}: mlip-sweep takes {_ratio(by_clock)} × the steps a second of {PEERS[architecture]}, "
        f"{_ratio(by_cpu)} × by CPU time (median, least and most of {len(own)} pairs)\n"
    )


def _ratio(ratios: NDArray[np.float64]) -> str:
    return f"{np.median(ratios):.2f} ({ratios.min():.2f} … {ratios.max():.2f})"


if __name__ == "__main__":
    main()
