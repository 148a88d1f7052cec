"""A set of ten thousand frames: seconds until an epoch of batches has been seen, and memory, beside nequip's own.

    python benchmarks/large_set.py [--frames 10000] [--atoms 32] [--cutoff 5.0]

Half of the frames are molecules, half are periodic cells of copper, labelled by EMT. Each case runs in a process of its
own: the file is read, whatever a training needs first is done, and the training frames are gone through in shuffled
batches of five, without a model. The peak is of the resident memory beyond that of the imports.

    on disk, anew     this project, with neighbour lists on disk that are not there yet
    on disk, again    the next run on the same data
    in memory         this project, as for small sets
    nequip            nequip's ASEDataModule; its NeighborListTransform finds neighbours where a batch is read
"""

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.data import chemical_symbols
from ase.io import write
from memory import MIB, peak_memory
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from mlip_sweep.models.nequip_file import data_config

BATCH = 5
EPOCHS = 2


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--atoms", type=int, default=32, help="of a periodic cell (default %(default)s)")
    parser.add_argument("--cutoff", type=float, default=5.0, help="Å (default %(default)s)")
    given = parser.parse_args()
    table = Table(title=f"{given.frames} frames, cells of {given.atoms} atoms, {given.cutoff:g} Å")
    for column in ("case", "read and prepared, s", "first epoch, s", "second epoch, s", "peak, MiB"):
        table.add_column(column, justify="left" if column == "case" else "right")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "train.xyz"
        make(file, given.frames, given.atoms)
        for case in ("on disk, anew", "on disk, again", "in memory", "nequip"):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                seconds, peak = pool.submit(seen, case, file, given.cutoff).result()
            table.add_row(case, *(f"{one:.1f}" for one in seconds), f"{peak:.0f}")
    Console().print(table)


def make(file: Path, frames: int, atoms: int, seed: int = 0) -> None:
    """Write the frames."""
    rng = np.random.default_rng(seed)
    side = round((atoms / 4) ** (1 / 3))
    kinds = [molecule("CH3CH2OH"), bulk("Cu", cubic=True) * (side, side, max(1, round(atoms / 4 / side**2)))]
    written = []
    for number in range(frames):
        one = kinds[number % 2].copy()
        one.positions += rng.normal(0.0, 0.05, one.positions.shape)
        one.calc = EMT()
        one.get_forces()
        written.append(one)
    write(file, written)


def seen(case: str, file: Path, cutoff: float) -> tuple[list[float], float]:
    """Seconds to be ready, of the first and of the second epoch, and the peak of the memory, MiB."""
    os.environ["MLIP_SWEEP_CACHE"] = str(file.parent)
    from nequip.data.datamodule import ASEDataModule  # so that both begin with the same imports

    from mlip_sweep.data import stored_graphs
    from mlip_sweep.data.datamodule import training_loader
    from mlip_sweep.data.datasets import extxyz

    marks = [time.perf_counter()]
    with peak_memory("cpu") as memory:
        if case == "nequip":
            loader = nequips(ASEDataModule, file, cutoff)
        else:
            stored_graphs.IN_MEMORY = 2**40 if case == "in memory" else 0
            dataset = extxyz(name="large", train=str(file), seed=0, validation_fraction=0.01)
            loader = training_loader(dataset.graphs("train", cutoff), BATCH, seed=0)
        marks.append(time.perf_counter())
        for _ in range(EPOCHS):
            for _ in loader:
                pass
            marks.append(time.perf_counter())
    return np.diff(marks).tolist(), memory["bytes"] / MIB


def nequips(kind: type, file: Path, cutoff: float) -> DataLoader:
    """The training batches of nequip's data module."""
    config = data_config(file, [chemical_symbols[z] for z in (1, 6, 8, 29)], cutoff)
    del config["_target_"]
    batches = {"_target_": "torch.utils.data.DataLoader", "batch_size": BATCH, "shuffle": True}
    module = kind(**config, exclude_keys=["stress"], train_dataloader=batches)  # molecules have no stress
    module.val_config = []  # the training frames alone
    module.prepare_data()
    module.setup("fit")
    loader: DataLoader = module.train_dataloader()
    return loader


if __name__ == "__main__":
    main()
