"""Put recorded runs side by side: the function behind `mlip-compare` and behind the end of every sweep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.text import Text

from mlip_sweep.comparison.claims import Tested, claims_in_words, claims_table, claims_tested
from mlip_sweep.comparison.curves import curve_figures, learning_slopes, slopes_in_words
from mlip_sweep.comparison.figures import landscape_figure, prediction_figure, survival_figure
from mlip_sweep.comparison.findings import findings
from mlip_sweep.comparison.predictors import (
    Prediction,
    predictions,
    predictions_table,
    predictors_figure,
    predictors_in_words,
)
from mlip_sweep.comparison.published import beside_published, slopes_beside_published
from mlip_sweep.comparison.published_figures import (
    published_landscapes_figure,
    published_prediction_figure,
    published_slopes_figure,
    published_times_figure,
)
from mlip_sweep.comparison.runs import (
    Landscape,
    Replicas,
    declared_metrics,
    group_titles,
    read_landscape,
    read_replicas,
    runs_table,
)
from mlip_sweep.comparison.selection import check_name, fulfilling, runs_of_ids
from mlip_sweep.comparison.tables import (
    WALL_TIME,
    choices_table,
    markdown_table,
    order_in_words,
    table_of_verdicts,
    terminal_table,
)
from mlip_sweep.comparison.verdict import Verdict, verdicts
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import Metric
from mlip_sweep.tracking.read import StoredRun, run_of_id, stored_runs
from mlip_sweep.tracking.store import keep_file, resolve, ui_hint

FIGURE_DPI = 150
REPORT = "report.html"


@dataclass(frozen=True)
class Evidence:
    """What the runs of a group say beyond which choice to trust.

    Attributes:
        claims: of the literature, tested.
        predictions: how well each measure tells the time to failure and the learning slope.
        slopes: of learning curves, as `learning_slopes` gives them.
        published: the published numbers beside the runs; empty where they are not asked for or there are none.
        published_slopes: the published learning slopes likewise.
    """

    claims: Sequence[Tested]
    predictions: Sequence[Prediction]
    slopes: pd.DataFrame
    published: pd.DataFrame
    published_slopes: pd.DataFrame

    @property
    def told(self) -> list[str]:
        """In lines."""
        return [*claims_in_words(self.claims), *predictors_in_words(self.predictions), *slopes_in_words(self.slopes)]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, and where it lies.

    Attributes:
        verdicts: one a group, the group with the most runs first.
        landscapes: by run id, of the runs that have one.
        replicas: by run id, likewise.
        declared: what is known of the metrics.
        where: how the runs themselves are opened.
        uri: absolute URI of the store that the runs are in.
        stored: the runs as they are recorded.
        sweeps: parent runs of the sweeps that are compared, as far as whole sweeps are.
        sort: metric by which the tables of choices are sorted; "" for the order of the verdict.
        published: whether the published numbers stand beside those of the runs.
        files: what was written.
    """

    verdicts: Sequence[Verdict]
    landscapes: Mapping[str, Landscape]
    replicas: Mapping[str, Replicas]
    declared: tuple[Metric, ...]
    where: str
    uri: str
    stored: Sequence[StoredRun] = ()
    sweeps: Sequence[StoredRun] = ()
    sort: str = ""
    published: bool = False
    files: list[Path] = field(default_factory=list)

    @cached_property
    def evidence(self) -> Mapping[str, Evidence]:
        """By group."""
        return {
            found.group: Evidence(
                claims=claims_tested(found.choices, self.replicas),
                predictions=predictions(found),
                slopes=learning_slopes(found),
                published=beside_published(found) if self.published else pd.DataFrame(),
                published_slopes=slopes_beside_published(found) if self.published else pd.DataFrame(),
            )
            for found in self.verdicts
        }

    def told(self, found: Verdict) -> list[str]:
        """What it says of a group, one line each, the answer first."""
        return [*findings(found), *self.evidence[found.group].told]

    @property
    def runs(self) -> pd.DataFrame:
        """One row a run."""
        return table_of_verdicts(self.verdicts)

    @property
    def findings(self) -> list[str]:
        """What it says, one line each, the answer first; of several groups each line names its own."""
        return [
            f"[{found.title}] {line}" if found.title else line for found in self.verdicts for line in self.told(found)
        ]

    def show(self, title: str = "", console: Console | None = None) -> None:
        """Tables, findings and places, on the terminal; a narrow one gets fewer columns, the files have all."""
        console = console or Console()
        if len(self.verdicts) > 1:
            console.print(
                f"{len(self.verdicts)} groups, measured on other data or by other settings: each is ranked by itself"
            )
        for found in self.verdicts:
            heading = " – ".join(
                part for part in (title, found.title, order_in_words(self.sort, self.declared)) if part
            )
            console.print(terminal_table(found, heading, console.width, self.declared, self.sort))
            for place, line in enumerate(self.told(found)):
                console.print(Text(f"{'→' if place == 0 else '•'} {line}", style="bold" if place == 0 else ""))
        places = [f"stored: {self.files[0].parent}/"] if self.files else []
        places += [f"report: {file}" for file in self.files if file.name == REPORT]
        places.append(f"open:   {self.where}")
        console.print(Text("\n".join(places)), soft_wrap=True)  # one line each, to be copied

    def markdown(self, report: str = "") -> str:
        """Verdicts and tables for a page of MLflow's UI, the answer first.

        Args:
            report: address of the report's page. The link stands beside the answer, since the UI folds the rest away.
        """
        link = f" – [report, with figures to hover over]({report})" if report else ""
        parts = []
        for found in self.verdicts:
            first, *others = self.told(found)
            heading = f"**{found.title}**: " if found.title else ""
            parts += [f"{heading}**{first}**{link}", *others[:1], markdown_table(found, self.declared)]
            link = ""
            parts.append("\n".join(f"- {line}" for line in others[1:]))
        return "\n\n".join(part for part in parts if part)

    def write(self, output: Path | str, *, report: bool = False) -> None:
        """Write tables, findings and figures into a folder.

        comparison.csv has one row a run, choices.csv one row a choice, findings.txt the words; landscapes.png,
        survival.png, prediction.png, and claims.csv, predictors.csv and predictors.png where the runs can test the
        claims of the literature and what predicts the time to failure, stand for the group with the most runs, with a
        number for each further group. published.csv and the figures published_times.png, published_prediction.png and
        published_landscapes.png come with `published`; with learning curves published_slopes.csv and .png too.

        Args:
            output: the folder; made where it is new.
            report: whether to write report.html as well: all of it on one page, with figures to hover over.
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
            evidence, number = self.evidence[found.group], f"_{place}" if place > 1 else ""
            figures = {
                "landscapes": landscape_figure(found, self.landscapes),
                "survival": survival_figure(found, self.replicas),
                "prediction": prediction_figure(found),
                "predictors": predictors_figure(evidence.predictions),
                **curve_figures(found),
            }
            tables = {
                "claims": claims_table(evidence.claims),
                "predictors": predictions_table(evidence.predictions),
                "learning_slopes": evidence.slopes,
                "published": evidence.published,
                "published_slopes": evidence.published_slopes,
            }
            if len(evidence.published):
                figures["published_landscapes"] = published_landscapes_figure(found, self.landscapes)
                figures["published_times"] = published_times_figure(evidence.published)
                figures["published_prediction"] = published_prediction_figure(evidence.published)
            if len(evidence.published_slopes):
                figures["published_slopes"] = published_slopes_figure(evidence.published_slopes)
            for name, table in tables.items():
                if len(table):
                    self.files.append(folder / f"{name}{number}.csv")
                    table.to_csv(self.files[-1], index=False)
            for name, figure in figures.items():
                if figure is not None:
                    self.files.append(folder / f"{name}{number}.png")
                    figure.savefig(self.files[-1], dpi=FIGURE_DPI)
        if report:
            from mlip_sweep.comparison.report import report_page  # Plotly takes a second to import

            self.files.append(folder / REPORT)
            self.files[-1].write_text(report_page(self), encoding="utf-8")


def compare(
    uri: str,
    experiment: str | None = None,
    parent: str | None = None,
    output: Path | str = "comparison",
    *,
    ids: Sequence[str] = (),
    where: Sequence[str] = (),
    sort: str = "",
    report: bool = False,
    published: bool = False,
) -> Comparison:
    """Compare the runs of a sweep, of an experiment, or of a whole store, and write what was found.

    Args:
        uri: the store.
        experiment: its runs only; None for those of all experiments.
        parent: id of a sweep's run: its runs only.
        output: folder for tables and figures.
        ids: of runs and of sweeps, or their beginnings, instead of an experiment and a parent.
        where: conditions that runs have to fulfil, such as "model=mace" or "loss_entropy>1".
        sort: metric by which the shown tables of choices are sorted; ranks and verdict stay.
        report: whether to write report.html as well. That of one whole sweep is kept with the sweep's run too.
        published: whether to put the published numbers of the same models beside those of the runs.

    Raises:
        InputError: there are no such runs, a condition or a name is none, or the store does not serve.
    """
    if ids:
        stored, sweeps = runs_of_ids(uri, ids)
    else:
        stored = stored_runs(uri, experiment, parent)
        sweeps = [run_of_id(uri, parent)] if parent and stored else []
    if not stored:
        asked = f"ids {', '.join(ids)}" if ids else f"experiment {experiment!r}"
        raise InputError(
            f"no runs to compare in {uri} ({asked}): run a sweep first, or give another experiment or another id"
        )
    stored = fulfilling(stored, where)
    if sort:
        check_name(sort, {WALL_TIME, *(name for run in stored for name in run.metrics)}, f"--sort {sort}", "metric")
    only = sweeps[0].run_id if len(sweeps) == 1 and all(sweeps[0].run_id in run.sweeps for run in stored) else None
    found = side_by_side(stored, uri, ui_hint(resolve(uri), only), sweeps=sweeps, sort=sort, published=published)
    if published and not any(len(one.published) for one in found.evidence.values()):
        raise InputError(
            "--published: none of these runs is of a published model; run mlip-sweep --config-name=nequip_table, or "
            "give published=NAME to a run"
        )
    found.write(output, report=report)
    if report and only and not where:
        keep_file(uri, only, Path(output, REPORT))
    return found


def side_by_side(
    stored: Sequence[StoredRun],
    uri: str,
    where: str,
    *,
    sweeps: Sequence[StoredRun] = (),
    sort: str = "",
    published: bool = False,
) -> Comparison:
    """Compare stored runs.

    Args:
        stored: the runs, at least one.
        uri: the store that they are in.
        where: how a person opens them.
        sweeps: parent runs of the sweeps that are compared, as far as whole sweeps are.
        sort: metric by which the tables of choices are sorted; "" for the order of the verdict.
        published: whether the published numbers of the same models stand beside.
    """
    runs = runs_table(stored)
    identities = list(runs["run_id"])
    landscapes = {run: curves for run in identities if (curves := read_landscape(uri, run)) is not None}
    replicas = {run: times for run in identities if (times := read_replicas(uri, run)) is not None}
    return Comparison(
        verdicts(runs, replicas, group_titles(runs)),
        landscapes,
        replicas,
        declared_metrics(stored),
        where,
        resolve(uri),
        stored,
        sweeps,
        sort,
        published,
    )
