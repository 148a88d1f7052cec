"""What trainings that share a program gain: a step of K members together beside a step of one alone.

    python benchmarks/cohorts.py                                   # both demo models, 2 to 32 members, eager
    python benchmarks/cohorts.py --compile --members 8             # through torch.compile too, with its compile time
    python benchmarks/cohorts.py --whole --members 8               # whole trainings: Lightning, optimiser, validation
    python benchmarks/cohorts.py --xyz train_300K.xyz              # other molecules
    python benchmarks/cohorts.py --members 8 --profile             # what a step spends its time on

A step is a batch of five frames: energies, forces, and the gradients of a loss of both by all weights. Cases take turns
(A B A B), on one thread of one process; times are per member, medians with the least and the most of the turns, and so
are the ratios, of one turn each. Beside them stand the floating-point operations of a step (torch's count, of matrix
products alone) over the rate of a large matrix product on the same thread: what the machine could do. With --profile
torch's profiler tells what the time of each case goes into.
"""

import argparse
import re
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry
from trained import overrides_of, plan_of

from mlip_sweep.data.graphs import GraphBatch, collate
from mlip_sweep.models.interface import Potential
from mlip_sweep.models.mapped import Evaluation, derive_together
from mlip_sweep.run.plan import Data, Plan
from mlip_sweep.run.train import build
from mlip_sweep.training.cohort import Cohort, membership
from mlip_sweep.training.fit import fit

BATCH = 5  # frames

OTHER = "other arithmetic"
KINDS = {  # of operations, by the whole names that torch's profiler gives them
    "products of matrices": r"aten::(mm|bmm|addmm|baddbmm)",
    "products, sums": r"aten::(mul|add|sum|sub|div|neg)_?",
    "copies, rows": r"aten::(copy_|cat|fill_|zero_|zeros|new_zeros|stack|_?index\w*|gather|scatter\w*|clone|contiguous|"
    r"_to_copy)",
    "shapes": r"aten::(_?reshape\w*|_?(unsafe_)?view|as_strided|permute|expand|slice|select|split\w*|narrow|transpose|"
    r"t|unsqueeze|squeeze|empty\w*|detach|alias)",
    "derivatives' bookkeeping": r"autograd::.*|\w+Backward\d+|struct torch::autograd.*",
    "compiled": r"(Torch-Compiled|## Call|CompiledFunction|AOTDispatcher|TorchDynamo|CompiledFxGraph).*",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="of the run's config, such as model.num_features=32")
    parser.add_argument("--architectures", nargs="+", default=["nequip", "mace"])
    parser.add_argument("--members", type=int, nargs="+", default=[2, 4, 8, 16, 32])
    parser.add_argument("--xyz", type=Path, help="training frames from a file that ASE reads, instead of ethanol")
    parser.add_argument("--compile", action="store_true", help="through torch.compile too, which takes minutes")
    parser.add_argument("--whole", action="store_true", help="whole trainings instead of steps")
    parser.add_argument("--profile", action="store_true", help="shares of a step's time by kinds of operations")
    parser.add_argument("--epochs", type=int, default=20, help="of whole trainings (default %(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps of a turn (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each case (default %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    for architecture in given.architectures:
        plans = [make(given, architecture, seed) for seed in range(max(given.members))]
        data = plans[0].read_data()
        if given.whole:
            console.print(whole(given, architecture, plans, data))
        else:
            for table in steps(given, architecture, [build(plan, data) for plan in plans], data):
                console.print(table)


def make(given: argparse.Namespace, architecture: str, seed: int) -> Plan:
    """The plan of one member."""
    size = {"xyz": given.xyz, "n_train": 40, "epochs": given.epochs}
    return plan_of(overrides_of(architecture, **size, seed=seed, overrides=given.overrides))


def steps(given: argparse.Namespace, architecture: str, models: Sequence[Potential], data: Data) -> list[Table]:
    """Steps of the program alone, without a trainer around it."""
    for model in models:
        model.train()
    batch = collate(data.dataset.graphs("train", models[0].cutoff)[:BATCH])
    backends = [None, "inductor"] if given.compile else [None]
    cases: dict[str, tuple[Callable[[], None], int]] = {"eager, alone": (partial(alone, models[0], batch), 1)}
    for backend in backends:
        word = "eager" if backend is None else "compiled"
        if backend is not None:
            cases["compiled, alone"] = (partial(together, models[:1], batch, backend), 1)
        for k in given.members:
            cases[f"{word}, {k} members"] = (partial(together, models[:k], batch, backend), k)
    first, memory = {}, {}
    for name, (step, _) in cases.items():
        start = time.perf_counter()
        step()
        first[name] = time.perf_counter() - start
        memory[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(given.repeats):
        for name, (step, k) in cases.items():
            start = time.perf_counter()
            for _ in range(given.steps):
                step()
            times[name].append((time.perf_counter() - start) / given.steps / k)
    with FlopCounter() as counter:
        alone(models[0], batch)
    limit = counter.flops / matrix_product_rate()
    parameters = sum(p.numel() for p in models[0].parameters())
    size = f"{parameters} parameters, {len(batch.positions)} atoms, {batch.edge_index.shape[1]} edges"
    flops = f"{counter.flops / 1e9:.3f} GFLOP a step: {1000 * limit:.2f} ms at the rate of a matrix product"
    table = Table(title=f"{architecture}, {size}; {flops}")
    for column in (
        "case",
        "ms a member-step",
        "× eager alone",
        "× compiled alone",
        "× limit",
        "first step, s",
        "peak MiB",
    ):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, own in times.items():
        ratios = [ratio(times[peer], own) if peer in times else "" for peer in ("eager, alone", "compiled, alone")]
        median = statistics.median(own)
        table.add_row(
            name,
            spread([1000 * t for t in own]),
            *ratios,
            f"{median / limit:.0f}",
            f"{first[name]:.1f}",
            f"{memory[name]:.0f}",
        )
    return [table, profile({name: step for name, (step, _) in cases.items()})] if given.profile else [table]


def profile(cases: dict[str, Callable[[], None]]) -> Table:
    """Shares of the time of three steps, by what the processor does."""
    table = Table(title="share of a step's time, %")
    for column in ("case", *KINDS, OTHER, "operations"):
        table.add_column(column, justify="left" if column == "case" else "right")
    for name, step in cases.items():
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for _ in range(3):
                step()
        shares = dict.fromkeys((*KINDS, OTHER), 0.0)
        operations = 0
        for event in profiler.key_averages():
            operations += event.count if event.key.startswith("aten::") else 0
            kind = next((kind for kind, names in KINDS.items() if re.fullmatch(names, event.key)), OTHER)
            shares[kind] += event.self_cpu_time_total
        total = sum(shares.values())
        table.add_row(name, *(f"{100 * share / total:.0f}" for share in shares.values()), str(operations // 3))
    return table


def whole(given: argparse.Namespace, architecture: str, plans: Sequence[Plan], data: Data) -> Table:
    """Trainings with all that is around the program."""
    n_steps = -(-len(data.dataset.train) // plans[0].settings.trainer.batch_size) * given.epochs
    counts = [1, *given.members]
    times: dict[int, list[float]] = {k: [] for k in counts}
    for turn in range(given.repeats + 1):  # the first one writes programs out, and is not counted
        for k in counts:
            start = time.perf_counter()
            if k == 1:
                train(plans[0], data)
            else:
                for member in Cohort([partial(train, plan, data) for plan in plans[:k]]).run():
                    if member.error is not None:
                        raise member.error
            if turn:
                times[k].append((time.perf_counter() - start) / n_steps / k)
    table = Table(title=f"{architecture}: {given.epochs} epochs with validation, checkpoints and optimiser, eager")
    for column in ("members", "ms a member-step", "× alone"):
        table.add_column(column, justify="right")
    for k, own in times.items():
        table.add_row("alone" if k == 1 else str(k), spread([1000 * t for t in own]), ratio(times[1], own))
    return table


def train(plan: Plan, data: Data) -> None:
    """One training, alone or as a member of a cohort."""
    model = build(plan, data)
    if (member := membership()) is not None:
        member.share(model, compiled=plan.settings.trainer.compile)
    splits = (data.dataset.graphs(split, model.cutoff) for split in ("train", "validation"))
    with tempfile.TemporaryDirectory() as folder:
        fit(model, *splits, plan.recipe, plan.settings.trainer, seed=plan.settings.seeds.order, folder=Path(folder))


def alone(model: Potential, batch: GraphBatch) -> None:
    """A step of one potential as it is."""
    energies, forces = model.derive({}, batch.geometry())
    scalar = energies.square().sum() + forces.square().sum()
    torch.autograd.grad(scalar, list(model.parameters()), allow_unused=True)


def together(models: Sequence[Potential], batch: GraphBatch, backend: str | None) -> None:
    """A step of several potentials in one program."""
    energies, forces = derive_together([Evaluation(model, {}, batch.geometry()) for model in models], backend)
    scalar = energies.square().sum() + forces.square().sum()
    torch.autograd.grad(scalar, [p for model in models for p in model.parameters()], allow_unused=True)


class FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations of matrix products; torch's own hooks into modules too."""

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do an operation, and count it."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.flops += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def matrix_product_rate(n: int = 1500) -> float:
    """Floating-point operations a second of a large product in single precision, the best of five."""
    a, b = torch.rand(n, n), torch.rand(n, n)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * n**3 / min(seconds)


def ratio(peer: Sequence[float], own: Sequence[float]) -> str:
    """How much faster, turn by turn."""
    return spread([a / b for a, b in zip(peer, own, strict=True)])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} … {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
