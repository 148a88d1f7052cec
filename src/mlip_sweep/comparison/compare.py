"""Put recorded runs side by side: the function behind `mlip-compare` and behind the end of every sweep."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console, Group
from rich.text import Text

from mlip_sweep.comparison.figures import landscape_figure, prediction_figure, survival_figure
from mlip_sweep.comparison.findings import correlations, findings
from mlip_sweep.comparison.runs import declared_metrics, read_landscape, read_replicas, runs_table
from mlip_sweep.comparison.statistics import Correlation
from mlip_sweep.comparison.tables import summarise, terminal_table
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric
from mlip_sweep.tracking.read import stored_runs
from mlip_sweep.tracking.store import resolve, ui_hint

FIGURE_DPI = 150


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and where it lies.

    Attributes:
        table: one row a run, as `summarise` orders them.
        findings: what it says, one line each.
        correlations: over the finished runs.
        files: what was written.
        where: how the runs themselves are opened.
        declared: what is known of the metrics.
    """

    table: pd.DataFrame
    findings: list[str]
    correlations: dict[str, Correlation]
    files: list[Path]
    where: str
    declared: tuple[Metric, ...]

    def show(self, title: str = "", console: Console | None = None) -> None:
        """Table, findings and places, on the terminal; a narrow one gets fewer columns, comparison.csv has all."""
        console = console or Console()
        lines = [Text(f"• {line}") for line in self.findings]
        console.print(Group(terminal_table(self.table, title, console.width, self.declared), *lines))
        places = f"stored: {self.files[0].parent}/\nopen:   {self.where}"
        console.print(Text(places), soft_wrap=True)  # one line each, to be copied


def compare(
    uri: str, experiment: str | None = None, parent: str | None = None, output: Path | str = "comparison"
) -> Comparison:
    """Compare the runs of a sweep, of an experiment, or of a whole store.

    Writes comparison.csv, findings.txt, landscapes.png, survival.png and prediction.png (each where the runs have the
    measurement) into `output`.

    Raises:
        InputError: there are no such runs, or the store does not serve.
    """
    stored = stored_runs(uri, experiment, parent)
    runs = runs_table(stored)
    if runs.empty:
        raise InputError(
            f"no runs to compare in {uri} (experiment {experiment!r}, sweep {parent!r}): run a sweep first, "
            "or give another experiment"
        )
    identities = list(runs["run_id"])
    landscapes = {run: curves for run in identities if (curves := read_landscape(uri, run)) is not None}
    replicas = {run: times for run in identities if (times := read_replicas(uri, run)) is not None}
    table = summarise(runs, replicas)
    lines = findings(table)

    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "comparison.csv", folder / "findings.txt"]
    table.to_csv(files[0], index=False)
    files[1].write_text("\n".join(lines) + "\n")
    figures = {
        "landscapes": landscape_figure(table, landscapes),
        "survival": survival_figure(table, replicas),
        "prediction": prediction_figure(table),
    }
    for name, figure in figures.items():
        if figure is not None:
            files.append(folder / f"{name}.png")
            figure.savefig(files[-1], dpi=FIGURE_DPI)
    return Comparison(table, lines, correlations(table), files, ui_hint(resolve(uri), parent), declared_metrics(stored))
