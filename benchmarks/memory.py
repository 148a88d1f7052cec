"""Peak memory of landscapes and of dynamics, against frames, replicas and the size of a batch.

    python benchmarks/memory.py
    python benchmarks/memory.py --architecture mace --max-atoms 512 1024 --limit 200
    python benchmarks/memory.py --device cuda

Every case runs in a process of its own. On the CPU (Linux) the peak is that of the resident memory, looked at every
millisecond, beyond what it was with the model loaded and used once; on a GPU it is torch.cuda.max_memory_allocated.
The model is shown frames and replicas in batches of `trainer.max_atoms` atoms: with the smallest, the peak is to stay
under --limit however many there are, which the last line tells.
"""

import argparse
import ctypes
import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from trained import trained

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import batches
from mlip_sweep.measurement.dynamics.engine import molecular_dynamics
from mlip_sweep.measurement.dynamics.protocol import MDProtocol, initial_momenta, starting_geometry
from mlip_sweep.measurement.landscape.loss_entropy import LossEntropy

MIB = 2**20


def peak(case: str, count: int, max_atoms: int, architecture: str, device: str, seed: int) -> float:
    """Peak memory of one case, MiB; run in a fresh process.

    Args:
        case: "landscape" or "dynamics".
        count: frames or replicas.
        max_atoms: of a batch.
        architecture: "nequip" or "mace".
        device: "cpu" or "cuda".
        seed: of weights, directions and velocities.
    """
    torch.set_num_threads(1)
    model, dataset = trained(architecture, epochs=2, seed=seed)
    model.to(device)
    graphs = graphs_of(dataset.train, model.cutoff)
    model(graphs[0].to(device))  # what is compiled and cached once
    with peak_memory(device) as seen:
        if case == "landscape":
            frames = (graphs * (count // len(graphs) + 1))[:count]
            data = [b.to(device) for b in batches(frames, max_atoms)]
            LossEntropy(directions=2, points=9, tolerance=0.03, plane_points=0, seed=seed, progress=False).entropy(
                model, data
            )
        else:
            start = starting_geometry(dataset)
            momenta = initial_momenta(start, MDProtocol(temperature_K=300.0, replicas=count, seed=seed))
            molecular_dynamics(model, start, momenta, n_steps=3, max_atoms=max_atoms, progress=False)
    return seen["bytes"] / MIB


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, int]]:
    """Sets "bytes", the largest memory inside beyond what was in use before."""
    seen = {"bytes": 0}
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield seen
        seen["bytes"] = torch.cuda.max_memory_allocated() - before
        return
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before must not hide what is taken now
    process, done = psutil.Process(), threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.001):
            seen["bytes"] = max(seen["bytes"], process.memory_info().rss - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", choices=("nequip", "mace"), default="nequip")
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1600], help="default 100 1600")
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 400], help="default 10 400")
    parser.add_argument("--max-atoms", type=int, nargs="+", default=[512, 4096], help="default 512 4096")
    parser.add_argument("--limit", type=float, default=64.0, help="MiB, for the smallest batch (default %(default)s)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of weights, directions and velocities")
    given = parser.parse_args()
    cases = [("landscape", n, size) for size in given.max_atoms for n in given.frames]
    cases += [("dynamics", n, size) for size in given.max_atoms for n in given.replicas]
    console, found = Console(), {}
    trained(given.architecture, epochs=2, seed=given.seed)
    for case in track(cases, description="cases", console=console, transient=True):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found[case] = pool.submit(peak, *case, given.architecture, given.device, given.seed).result()
    table = Table(title=f"{given.architecture}, ethanol, {given.device}, seed {given.seed}: peak memory")
    for column in ("measurement", "frames or replicas", "atoms of a batch", "MiB"):
        table.add_column(column, justify="left" if column == "measurement" else "right")
    for (case, count, size), mib in found.items():
        table.add_row(case, str(count), str(size), f"{mib:.0f}")
    smallest = min(given.max_atoms)
    largest = max(mib for (_, _, size), mib in found.items() if size == smallest)
    verdict = "stays under" if largest <= given.limit else "exceeds"
    lines = [
        f"{most // fewest}× the {what}: {found[case, most, smallest] / found[case, fewest, smallest]:.2f}× the memory"
        for case, what, counts in (("landscape", "frames", given.frames), ("dynamics", "replicas", given.replicas))
        for fewest, most in [(min(counts), max(counts))]
    ]
    told = f"in batches of {smallest} atoms the peak of {largest:.0f} MiB {verdict} the limit of {given.limit:.0f} MiB"
    console.print(table, *lines, told, sep="\n")


if __name__ == "__main__":
    main()
