"""Put recorded runs side by side: the function behind `mlip-compare` and behind the end of every sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from mlip_sweep.comparison.figures import landscape_figure, prediction_figure, survival_figure
from mlip_sweep.comparison.findings import findings
from mlip_sweep.comparison.runs import (
    Landscape,
    Replicas,
    declared_metrics,
    group_titles,
    read_landscape,
    read_replicas,
    runs_table,
)
from mlip_sweep.comparison.tables import choices_table, markdown_table, runs_table_of, terminal_table
from mlip_sweep.comparison.verdict import Verdict, verdicts
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric
from mlip_sweep.tracking.read import StoredRun, stored_runs
from mlip_sweep.tracking.store import resolve, ui_hint

FIGURE_DPI = 150


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and where it lies.

    Attributes:
        verdicts: one a group, the group with the most runs first.
        landscapes: by run id, of the runs that have one.
        replicas: by run id, likewise.
        declared: what is known of the metrics.
        where: how the runs themselves are opened.
        files: what was written.
    """

    verdicts: Sequence[Verdict]
    landscapes: Mapping[str, Landscape]
    replicas: Mapping[str, Replicas]
    declared: tuple[Metric, ...]
    where: str
    files: list[Path] = field(default_factory=list)

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run."""
        return runs_table_of(self.verdicts)

    @property
    def findings(self) -> list[str]:
        """What it says, one line each, the answer first; of several groups each line names its own."""
        return [
            f"[{found.title}] {line}" if found.title else line for found in self.verdicts for line in findings(found)
        ]

    def show(self, title: str = "", console: Console | None = None) -> None:
        """Tables, findings and places, on the terminal; a narrow one gets fewer columns, the files have all."""
        console = console or Console()
        if len(self.verdicts) > 1:
            console.print(
                f"{len(self.verdicts)} groups, measured on other data or by other settings: each is ranked by itself"
            )
        for found in self.verdicts:
            heading = " – ".join(part for part in (title, found.title) if part)
            console.print(terminal_table(found, heading, console.width, self.declared))
            for place, line in enumerate(findings(found)):
                console.print(Text(f"{'→' if place == 0 else '•'} {line}", style="bold" if place == 0 else ""))
        places = f"stored: {self.files[0].parent}/\nopen:   {self.where}" if self.files else f"open:   {self.where}"
        console.print(Text(places), soft_wrap=True)  # one line each, to be copied

    def markdown(self) -> str:
        """Verdicts and tables for a page of MLflow's UI, the answer first."""
        parts = []
        for found in self.verdicts:
            first, *others = findings(found)
            heading = f"**{found.title}**: " if found.title else ""
            parts += [f"{heading}**{first}**", markdown_table(found, self.declared)]
            parts.append("\n".join(f"- {line}" for line in others))
        return "\n\n".join(part for part in parts if part)

    def write(self, output: Path | str) -> None:
        """Write tables, findings and figures into a folder.

        comparison.csv has one row a run, choices.csv one row a choice, findings.txt the words; landscapes.png,
        survival.png and prediction.png stand for the group with the most runs, with a number for each further group.
        """
        folder = Path(output)
        folder.mkdir(parents=True, exist_ok=True)
        tables = {
            "comparison.csv": self.runs,
            "choices.csv": pd.concat([choices_table(found) for found in self.verdicts], ignore_index=True),
        }
        for name, table in tables.items():
            table.to_csv(folder / name, index=False)
        (folder / "findings.txt").write_text("\n".join(self.findings) + "\n")
        self.files.extend(folder / name for name in (*tables, "findings.txt"))
        for place, found in enumerate(self.verdicts, start=1):
            figures = {
                "landscapes": landscape_figure(found, self.landscapes),
                "survival": survival_figure(found, self.replicas),
                "prediction": prediction_figure(found),
            }
            for name, figure in figures.items():
                if figure is not None:
                    self.files.append(folder / f"{name}{f'_{place}' if place > 1 else ''}.png")
                    figure.savefig(self.files[-1], dpi=FIGURE_DPI)


def compare(
    uri: str, experiment: str | None = None, parent: str | None = None, output: Path | str = "comparison"
) -> Comparison:
    """Compare the runs of a sweep, of an experiment, or of a whole store, and write what was found.

    Raises:
        InputError: there are no such runs, or the store does not serve.
    """
    stored = stored_runs(uri, experiment, parent)
    if not stored:
        raise InputError(
            f"no runs to compare in {uri} (experiment {experiment!r}, sweep {parent!r}): run a sweep first, "
            "or give another experiment"
        )
    found = side_by_side(stored, uri, ui_hint(resolve(uri), parent))
    found.write(output)
    return found


def side_by_side(stored: Sequence[StoredRun], uri: str, where: str) -> Comparison:
    """Compare stored runs.

    Args:
        stored: the runs, at least one.
        uri: the store that they are in.
        where: how a person opens them.
    """
    runs = runs_table(stored)
    identities = list(runs["run_id"])
    landscapes = {run: curves for run in identities if (curves := read_landscape(uri, run)) is not None}
    replicas = {run: times for run in identities if (times := read_replicas(uri, run)) is not None}
    return Comparison(
        verdicts(runs, replicas, group_titles(runs)), landscapes, replicas, declared_metrics(stored), where
    )
