"""Seconds to the loss entropy, beside loss-landscapes 3.0.6 and beside the published protocol.

    python benchmarks/landscape.py                              # ethanol by GFN2-xTB, the demo's models
    python benchmarks/landscape.py --xyz train_300K.xyz         # 3BPA, or any other frames
    python benchmarks/landscape.py --compile                    # and by torch.compile, which takes minutes at first
    python benchmarks/landscape.py --architectures mace model.num_channels=32

All evaluate the same trained model on the same training frames, along the same directions:

    adaptive          this project, as shipped: from the model to S
    compiled          with --compile the same by torch.compile, as after a training by `trainer.compile=true`
    loss-landscapes   its linear_interpolation over the same grid, the metric being both RMSE of the same batches
    published         batches of one frame, and a pytorch_lightning Trainer.test for every point of the grid

The peers do the same at every point, so that they are timed on a sample of it and scaled up: --peer-directions whole
directions, and --test-points points. Methods take turns, A B C A B C. |ΔS| is against the plain evaluation of the whole
grid (method=full), which is done once; the error of loss-landscapes' own curves against it is printed too.
"""

import argparse
import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from loss_landscapes import linear_interpolation
from loss_landscapes.metrics.metric import Metric
from loss_landscapes.model_interface.model_wrapper import ModelWrapper
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from trained import trained

from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import GraphBatch, batches
from mlip_sweep.measurement.landscape.adaptive import SampledLandscape, sample_lines
from mlip_sweep.measurement.landscape.directions import Directions
from mlip_sweep.measurement.landscape.entropy import Entropy, EntropySettings, entropy_of
from mlip_sweep.measurement.landscape.grid import Displacements, LineLosses, evaluate_lines, grid
from mlip_sweep.models.compiled import compile_potential
from mlip_sweep.models.interface import Potential, Prediction
from mlip_sweep.models.targets import residuals
from mlip_sweep.training.lightning_messages import fewer_messages
from mlip_sweep.training.loss import MeanSquares

SETTINGS = EntropySettings()
OWN = ("adaptive", "compiled")


@dataclass(frozen=True)
class Task:
    """What all of them measure."""

    model: Potential
    graphs: Sequence[GraphBatch]
    data: Sequence[GraphBatch]
    directions: int
    t: np.ndarray
    tolerance: float
    seed: int

    def drawn(self) -> Directions:
        """The directions, from the beginning."""
        return Directions(self.model, seed=self.seed)


def adaptive(task: Task) -> tuple[float, SampledLandscape, Entropy]:
    """Seconds from a model to its entropy with standard errors, and what was found."""
    start = time.perf_counter()
    found = sample_lines(
        task.model,
        task.data,
        task.drawn(),
        task.directions,
        task.t,
        SETTINGS,
        tolerance=task.tolerance,
        progress=False,
    )
    entropy = entropy_of(found.curves.energy, found.curves.forces, SETTINGS)
    return time.perf_counter() - start, found, entropy


class BothErrors(Metric):
    """Energy RMSE and forces RMSE of a wrapped model, over whole batches."""

    def __init__(self, data: Sequence[GraphBatch]) -> None:
        super().__init__()
        self.data = data

    def __call__(self, model_wrapper: ModelWrapper) -> np.ndarray:
        """(2,): eV/atom and eV/Å."""
        errors = MeanSquares()
        for batch in self.data:
            errors.add(residuals(model_wrapper.forward, batch))
        return torch.stack([errors.roots["energy"], errors.roots["forces"]]).cpu().numpy()


def loss_landscapes(task: Task, directions: int) -> tuple[float, np.ndarray]:
    """Seconds for some directions of the grid, and their losses (D, G, 2)."""
    drawn, metric, curves = task.drawn(), BothErrors(task.data), []
    first, last = copy.deepcopy(task.model), copy.deepcopy(task.model)
    step = task.t[1] - task.t[0]
    tensors = [drawn[k] for k in range(directions)]
    start = time.perf_counter()
    for direction in tensors:
        for end, value in ((first, task.t[0] - step), (last, task.t[-1])):  # it evaluates after each step
            with torch.no_grad():
                for parameter, centre, part in zip(end.parameters(), task.model.parameters(), direction, strict=True):
                    parameter.copy_(centre + value * part)
        curves.append(linear_interpolation(first, last, metric, steps=len(task.t)))
    return time.perf_counter() - start, np.array(curves)


class OneByOne(pl.LightningModule):
    """The published protocol's module: a test step for every frame, its errors logged."""

    def __init__(self, model: Potential) -> None:
        super().__init__()
        self.model = model
        self.predict: Callable[[GraphBatch], Prediction] = model.forward  # what is no module can be replaced

    def test_step(self, batch: GraphBatch) -> None:
        """Log the squared errors of one frame."""
        values = {name: misses.square().mean() for name, misses in residuals(self.predict, batch).items()}
        self.log_dict(values, on_epoch=True, on_step=False, batch_size=1)


def published(task: Task, points: int) -> float:
    """Seconds for some points of the grid."""
    loader = DataLoader(task.graphs, batch_size=None)  # type: ignore[arg-type]
    bare = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    with fewer_messages():
        trainer = pl.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, inference_mode=False, **bare)
    module, direction = OneByOne(task.model), task.drawn()[0]
    start = time.perf_counter()
    displacements = Displacements(task.model)
    with fewer_messages():
        for value in np.linspace(task.t[0], task.t[-1], points):
            module.predict = displacements.at([(float(value), direction)])
            trainer.test(module, loader, verbose=False)
    return time.perf_counter() - start


def measure(task: Task, given: argparse.Namespace, name: str, console: Console) -> None:
    """Run the methods in turns, and print a table and the ratios."""
    own = {"adaptive": task}
    adaptive(task), loss_landscapes(task, 1), published(task, 1)  # fills caches
    if given.compile:
        own["compiled"] = replace(task, model=copy.deepcopy(task.model))
        with console.status(f"{name}: compiling"):
            compiling = compile_potential(own["compiled"].model, task.data[0], training=False)
        adaptive(own["compiled"])
        console.print(f"compiled in {compiling:.0f} s")
    seconds: dict[str, list[float]] = {method: [] for method in (*own, "loss-landscapes", "published")}
    with console.status(f"{name}: taking turns"):
        for _ in range(given.repeats):
            for method, same in own.items():
                spent, found, entropy = adaptive(same)
                seconds[method].append(spent)
            spent, curves = loss_landscapes(task, given.peer_directions)
            seconds["loss-landscapes"].append(spent * task.directions / given.peer_directions)
            points = task.directions * len(task.t)
            seconds["published"].append(published(task, given.test_points) * points / given.test_points)
    with console.status(f"{name}: the whole grid, once"):
        start = time.perf_counter()
        full = evaluate_lines(task.model, task.data, task.drawn(), task.directions, task.t, progress=False)
        seconds["full, once"] = [time.perf_counter() - start]
    console.print(*summary(task, name, seconds, found, entropy, full, curves), sep="\n")


def summary(
    task: Task,
    name: str,
    seconds: dict[str, list[float]],
    found: SampledLandscape,
    entropy: Entropy,
    full: LineLosses,
    curves: np.ndarray,
) -> tuple[Table, str]:
    """The table, and the ratios, one a line."""
    parameters = sum(p.numel() for p in task.model.parameters())
    table = Table(
        title=f"{name}, {parameters:,} parameters, {len(task.graphs)} frames of {task.graphs[0].positions.shape[0]} "
        f"atoms: {task.directions} directions × {len(task.t)} points, seed {task.seed}"
    )
    for column in ("method", "evaluations", "seconds", "least … most"):
        table.add_column(column, justify="left" if column == "method" else "right")
    every = task.directions * len(task.t)
    for method, each in seconds.items():
        count = found.evaluations if method in OWN else every
        table.add_row(method, f"{count}", f"{np.median(each):.2f}", f"{min(each):.2f} … {max(each):.2f}")
    exact = entropy_of(full.energy, full.forces, SETTINGS)
    off = np.abs(curves[:, :, 1] / full.forces[: len(curves)] - 1.0).max()
    difference = abs(entropy.total - exact.total)
    lines_of = [
        f"S = {entropy.total:.4f} ± {entropy.total_stderr:.3f}, |ΔS| = {difference:.4f} to the full evaluation "
        f"(estimated: {found.error:.4f}); loss-landscapes' curves agree within {off:.0e}"
    ]
    for method, peer in product((method for method in OWN if method in seconds), ("loss-landscapes", "published")):
        ratios = np.array(seconds[peer]) / np.array(seconds[method])
        lines_of.append(
            f"{method} takes 1/{np.median(ratios):.1f} of the time of {peer} "
            f"(1/{ratios.min():.1f} … 1/{ratios.max():.1f} of {len(ratios)} turns)"
        )
    return table, "\n".join(lines_of) + "\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run's config, such as model.num_features=32")
    parser.add_argument("--architectures", nargs="+", choices=("nequip", "mace"), default=["nequip", "mace"])
    parser.add_argument("--xyz", type=Path, help="training frames from a file that ASE reads, instead of ethanol")
    parser.add_argument("--compile", action="store_true", help="measure the compiled model too")
    parser.add_argument("--frames", type=int, default=40, help="to train on and to measure (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="of the training, done once (default %(default)s)")
    parser.add_argument("--directions", type=int, default=20, help="default %(default)s")
    parser.add_argument("--points", type=int, default=81, help="default %(default)s")
    parser.add_argument("--tolerance", type=float, default=0.01, help="of S (default %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=1024, help="of a batch (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of each method (default %(default)s)")
    parser.add_argument(
        "--peer-directions", type=int, default=1, help="a turn of loss-landscapes (default %(default)s)"
    )
    parser.add_argument("--test-points", type=int, default=4, help="a turn of the protocol (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and directions")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console()
    for architecture in given.architectures:
        with console.status(f"{architecture}: training, if it is the first time"):
            model, dataset = trained(
                architecture,
                xyz=given.xyz,
                n_train=given.frames,
                epochs=given.epochs,
                seed=given.seed,
                overrides=given.overrides,
            )
        graphs = graphs_of(dataset.train, model.cutoff)
        data = batches(graphs, given.max_atoms)
        task = Task(model, graphs, data, given.directions, grid(given.points, 0.25), given.tolerance, given.seed)
        measure(task, given, f"{architecture} on {dataset.name}", console)


if __name__ == "__main__":
    main()
