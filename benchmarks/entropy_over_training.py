"""How the loss entropy grows along a training, by the default loss and by the paper's: does S rise with what is learnt?

python benchmarks/entropy_over_training.py [--models nequip,mace] [--seeds 0,1,2] [--epochs 1,3,10,30,100,300]

Each number of epochs is a training of its own, on the demo's forty frames of ethanol, with its kept weights measured by
20 directions. The default loss fits the energies' shift in the validation and in the end; `loss=paper` does not. Runs
are recorded in a folder, so that the command goes on where it was; the figure shows S and the epoch whose weights were
kept, each seed a line, hollow where the model has not learnt.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich.console import Console
from rich.table import Table

from mlip_sweep.comparison.runs import read_runs
from mlip_sweep.comparison.verdict import learnt
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR
from mlip_sweep.training.metrics import KEPT_EPOCH

LOSSES = {"constant": "default", "paper": "loss=paper"}
COLOURS = {"nequip": "#0072B2", "mace": "#D55E00"}


def main() -> None:
    """Run what is missing, and show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="nequip,mace", help="(default: %(default)s)")
    parser.add_argument("--seeds", default="0,1,2", help="(default: %(default)s)")
    parser.add_argument("--epochs", default="1,3,10,30,100,300", help="(default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("entropy_over_training"), help="(default: %(default)s)")
    chosen = parser.parse_args()
    chosen.folder.mkdir(exist_ok=True)
    command = [str(Path(sys.executable).with_name("mlip-sweep")), "--multirun", "resume=true", "dataset.n_train=40"]
    command += [f"loss={','.join(LOSSES)}", f"model={chosen.models}", f"seed={chosen.seeds}"]
    command += [f"trainer.max_epochs={chosen.epochs}", "trainer.progress=false", "measurement.landscape.plane_points=0"]
    command += ["measurement.accuracy=null", "measurement.stability=null", "measurement.inference_time=null"]
    with (chosen.folder / "log.txt").open("a") as log:
        subprocess.run(command, cwd=chosen.folder, stdout=log, stderr=log, check=True)
    runs = read_runs(f"sqlite:///{chosen.folder.absolute()}/mlflow.db")
    told = pd.DataFrame(list(runs["params"]))[["loss", "model", "seed", "trainer.max_epochs"]]
    runs = (
        runs.drop(columns="seed").join(told).assign(learnt=learnt(runs), epochs=told["trainer.max_epochs"].astype(int))
    )
    Console().print(table(runs))
    runs[["loss", "model", "seed", "epochs", "learnt", LOSS_ENTROPY, LOSS_ENTROPY_STDERR, KEPT_EPOCH]].to_csv(
        chosen.folder / "entropy_over_training.csv", index=False
    )
    figure(runs).savefig(chosen.folder / "entropy_over_training.png", dpi=150)


def table(runs: pd.DataFrame) -> Table:
    """S of each seed, by epochs."""
    shown = Table(title="S by epochs, seeds side by side; † has not learnt", title_justify="left")
    for heading in ("loss", "model", "epochs", "S", "kept epoch"):
        shown.add_column(heading, justify="right")
    for (loss, model, epochs), same in runs.groupby(["loss", "model", "epochs"]):
        same = same.sort_values("seed")
        entropies = [
            f"{value:.2f}{'' if ok else '†'}" for value, ok in zip(same[LOSS_ENTROPY], same["learnt"], strict=True)
        ]
        kept = " ".join(f"{epoch:.0f}" for epoch in same[KEPT_EPOCH])
        shown.add_row(LOSSES[str(loss)], str(model), str(epochs), "  ".join(entropies), kept)
    return shown


def figure(runs: pd.DataFrame) -> Figure:
    """S and the kept epoch against epochs, one column a loss."""
    drawn = Figure(figsize=(9, 6.4), layout="constrained")
    panels = drawn.subplots(2, len(LOSSES), sharex=True, sharey="row")
    for column, (loss, label) in enumerate(LOSSES.items()):
        for (model, _), line in runs[runs["loss"] == loss].groupby(["model", "seed"]):
            line = line.sort_values("epochs")
            for axes, name in zip(panels[:, column], (LOSS_ENTROPY, KEPT_EPOCH), strict=True):
                values = line[name] + (name == KEPT_EPOCH)  # epochs are counted from 0
                axes.plot(line["epochs"], values, color=COLOURS.get(str(model), "0.3"), linewidth=1, alpha=0.8)
                for ok, face in ((True, COLOURS.get(str(model), "0.3")), (False, "white")):
                    axes.plot(
                        line["epochs"][line["learnt"] == ok],
                        values[line["learnt"] == ok],
                        "o",
                        color=COLOURS.get(str(model), "0.3"),
                        markerfacecolor=face,
                        markersize=5,
                    )
        panels[0, column].set_title(label)
        panels[1, column].set_xlabel("epochs of the training")
    panels[0, 0].set_ylabel("loss entropy S (nat)")
    panels[1, 0].set_ylabel("epoch whose weights are kept")
    panels[1, 0].set_yscale("log")
    for axes in panels.flat:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    for model, colour in COLOURS.items():
        panels[0, 0].plot([], [], color=colour, label=model)
    panels[0, 0].plot([], [], "o", color="0.3", markerfacecolor="white", label="has not learnt")
    panels[0, 0].legend(frameon=False)
    return drawn


if __name__ == "__main__":
    main()
