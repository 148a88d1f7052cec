"""What the normalisation of directions does to the loss entropy of MACE models of different L.

    python benchmarks/normalization.py
    python benchmarks/normalization.py --epochs 150 --seeds 0 1 2

Three small MACE models, whose hidden features have orders up to L = 0, 1, 2 (model.max_L), are trained on ethanol by
GFN2-xTB and measured with `filter` (the published code, under which the flat weights of e3nn degenerate to ±|θ|) and
with `irreps`. Errors are standard errors over directions. `alone` is the share of weights that are alone in their
filter: they can only change sign.
"""

import argparse

import torch
from rich.console import Console
from rich.table import Table
from trained import trained

from mlip_sweep.measurement.landscape.loss_entropy import (
    LOSS_ENTROPY,
    LOSS_ENTROPY_FORCES,
    LOSS_ENTROPY_FORCES_STDERR,
    LOSS_ENTROPY_STDERR,
    LossEntropy,
)
from mlip_sweep.models.filters import filters


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=30, help="of each training, done once (default %(default)s)")
    parser.add_argument("--channels", type=int, default=8, help="default %(default)s")
    parser.add_argument("--directions", type=int, default=20, help="default %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of weights (default 0)")
    parser.add_argument("--threads", type=int, default=1, help="of torch (default %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    console = Console()
    table = Table(
        title=f"MACE, {given.channels} channels, {given.epochs} epochs, {given.directions} directions, seed 0"
    )
    for column in ("L", "seed", "parameters", "alone", "filter: S", "irreps: S", "filter: S_F", "irreps: S_F"):
        table.add_column(column, justify="right")
    for order in (0, 1, 2):
        for seed in given.seeds:
            with console.status(f"L = {order}, seed {seed}"):
                size = [
                    f"model.max_L={order}",
                    f"model.num_channels={given.channels}",
                ]
                model, dataset = trained("mace", epochs=given.epochs, seed=seed, overrides=size)
                found = {
                    kind: LossEntropy(directions=given.directions, normalization=kind, progress=False, plane_points=0)(
                        model, dataset
                    )
                    for kind in ("filter", "irreps")
                }
            labels = filters(model, "filter")
            alone = float((torch.bincount(labels)[labels] == 1).float().mean())
            numbers = [
                f"{report.metrics[name]:.2f} ± {report.metrics[error]:.2f}"
                for name, error in (
                    (LOSS_ENTROPY, LOSS_ENTROPY_STDERR),
                    (LOSS_ENTROPY_FORCES, LOSS_ENTROPY_FORCES_STDERR),
                )
                for report in found.values()
            ]
            table.add_row(str(order), str(seed), f"{len(labels):,}", f"{alone:.0%}", *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
