"""How the weights are distributed over the layers, and so which layers a random direction moves most."""

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import nn

from mlip_sweep.measurement.axes import plain_ticks


def weight_table(model: nn.Module) -> pd.DataFrame:
    """One row a parameter, in the order of the model.

    Columns: parameter (its name, without what all have in common; a pattern for `frozen`), number, rms, max_abs, and
    share: its part of ‖θ‖², which under filter normalisation is its part of every random direction.
    """
    paths = [name.split(".") for name, _ in model.named_parameters()]
    shared = next((k for k, parts in enumerate(zip(*paths, strict=False)) if len(set(parts)) > 1), 0)
    rows = [
        (".".join(name.split(".")[shared:]), p.numel(), float(p.square().mean().sqrt()), float(p.abs().max()))
        for name, p in ((name, p.detach().double()) for name, p in model.named_parameters())
    ]
    table = pd.DataFrame(rows, columns=["parameter", "number", "rms", "max_abs"])
    squares = table["number"] * table["rms"] ** 2
    table["share"] = squares / squares.sum()
    return table


def weight_figure(model: nn.Module, table: pd.DataFrame) -> Figure:
    """Left: the moduli of the weights of every layer. Right: each layer's share of the norm, θ's and a direction's."""
    values = [p.detach().double().abs().flatten().cpu() for p in model.parameters()]
    figure = Figure(figsize=(11, 1.6 + 0.24 * len(table)), layout="constrained")
    spread, shares = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    rows = range(len(table))
    spread.boxplot(
        [v[v > 0].numpy() if bool((v > 0).any()) else torch.tensor([torch.nan]).numpy() for v in values],
        positions=list(rows),
        orientation="horizontal",
        whis=(1, 99),
        widths=0.6,
        showfliers=False,  # a large model has tens of thousands
        medianprops={"color": "#D55E00"},
    )
    spread.set_xscale("log")
    plain_ticks(spread.xaxis)
    spread.set_xlabel("|weight| (box: quartiles; whiskers: 1 % and 99 %)")
    spread.set_yticks(list(rows), table["parameter"], fontsize=8)
    shares.barh(list(rows), 100.0 * table["share"], color="#0072B2")
    shares.set_xlabel("share of the squared norm (%)")
    spread.invert_yaxis()
    figure.suptitle("Weights by layer", fontsize=11)
    return figure
