"""The comparison on one HTML page that needs no network: the answer, tables to sort, figures to hover over, and how.

The page holds Plotly's program whole, which is nearly all of its size, so that it opens from a disk, from MLflow's
artifacts or from a mail. Its parts lie in the folder `page`.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from mlip_sweep.comparison.choices import MEASUREMENT, SOURCES, choice_of, telling
from mlip_sweep.comparison.findings import findings
from mlip_sweep.comparison.interactive import HISTORIES, Histories, interactive_figures
from mlip_sweep.comparison.report_evidence import claims_rows, predictors_rows, published_rows, sortable
from mlip_sweep.comparison.style import Style, styles_of
from mlip_sweep.comparison.tables import (
    DASH,
    NOT_LEARNT_TOLD,
    WALL_TIMES,
    Cells,
    duration,
    order_by,
    order_in_words,
    ranks,
    run_cells,
    table_cells,
)
from mlip_sweep.comparison.verdict import LEVEL, Verdict
from mlip_sweep.errors import without_passwords
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.tracking.read import StoredRun, metric_history, stored_sweeps
from mlip_sweep.tracking.run import FRAMES
from mlip_sweep.tracking.store import SERVER, run_page
from mlip_sweep.tracking.sweep import CONFIG_NAME, OVERRIDES

if TYPE_CHECKING:
    from mlip_sweep.comparison.compare import Comparison

PAGE = Path(__file__).parent / "page"
ROOT_CONFIG = "run"  # the config that needs no --config-name
VERSION = "version."  # tags: before the name of a package
TO_TARGET = 2.4  # time constants of Berendsen's thermostat, in which replicas come near its temperature
SEEDS: Final = ("model", "order", "data", "directions", "velocities")
UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def report_page(found: "Comparison") -> str:
    """The page as text.

    Args:
        found: what a comparison found.
    """
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    histories = _histories(found)
    stored = {run.run_id: run for run in found.stored}
    names = [sweep.name for sweep in found.sweeps]
    return environment.get_template("report.html").render(
        title=", ".join(names) if names else f"{len(found.runs)} runs",
        made=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        where=found.where.replace("   and ", "\n"),
        groups=[_group(one, found, stored, histories, place) for place, one in enumerate(found.verdicts, start=1)],
        commands=_commands(found),
        style=_file("report.css"),
        script=_file("report.js"),
        plotly=Markup(get_plotlyjs()),
    )


def _group(
    verdict: Verdict, found: "Comparison", stored: Mapping[str, StoredRun], histories: Histories, place: int
) -> dict[str, Any]:
    """What the page says of one group."""
    answer, *others = findings(verdict)
    evidence, uri = found.evidence[verdict.group], without_passwords(found.uri)
    runs = [stored[run] for table in (verdict.runs, verdict.unfinished) if len(table) for run in table["run_id"]]
    figures = interactive_figures(verdict, found.landscapes, found.replicas, histories)
    return {
        "id": f"group{place}",
        "title": verdict.title,
        "answer": answer,
        "findings": others,
        "legend": [
            {
                "key": choice.key,
                "rank": rank,
                "label": choice.label,
                "look": _look(styles_of(verdict.choices)[choice.key]),
            }
            for choice, rank in zip(verdict.choices, ranks(verdict), strict=True)
        ],
        "choices": _choices_rows(verdict, found),
        "runs": _runs_rows(verdict, found, stored),
        "figures": [
            {"name": one.name, "title": one.title, "note": one.note, "json": _json(one.figure.to_json())}
            for one in figures
        ],
        "claims": claims_rows(evidence.claims),
        "predictors": predictors_rows(evidence.predictions),
        "published": published_rows(evidence.published),
        "trusted": verdict.run_id,
        "load": f'calculator = load_calculator("runs:/{verdict.run_id}", tracking_uri="{uri}")',
        "settings": _settings(runs),
        "facts": _facts(runs),
        "sources": sorted({line for run in runs for line in run.tags.get(SOURCES, "").splitlines()}),
        "limits": _limits(verdict, runs),
    }


def _choices_rows(verdict: Verdict, found: "Comparison") -> dict[str, Any]:
    """The table of choices, in the order that was asked for."""
    cells = table_cells(verdict, found.declared, found.sort)
    told, styles = ranks(verdict), styles_of(verdict.choices)
    rows = [
        {
            "rank": told[place],
            "place": place + 1,
            "label": verdict.choices[place].label,
            "look": _look(styles[verdict.choices[place].key]),
            "best": verdict.choices[place].rank == 1,
            "cells": [(one.texts[place], sortable(one.values[place])) for one in cells],
        }
        for place in order_by(verdict, found.sort, found.declared)
    ]
    return {
        "headings": [one.heading for one in cells],
        "rows": rows,
        "sorted": order_in_words(found.sort, found.declared),
        "note": "" if all(choice.learnt for choice in verdict.choices) else NOT_LEARNT_TOLD,
    }


def _runs_rows(verdict: Verdict, found: "Comparison", stored: Mapping[str, StoredRun]) -> dict[str, Any]:
    """The table of all runs: which choice and seed, the settings that differ, and what each recorded."""
    choices = {choice.key: (choice.label, rank) for choice, rank in zip(verdict.choices, ranks(verdict), strict=True)}
    runs = pd.concat([one for one in (verdict.runs, verdict.unfinished) if len(one)], ignore_index=True)
    settings = telling([choice_of(params) for params in runs["params"]])
    cells: list[Cells] = run_cells(runs, found.declared)
    rows = []
    for place, (_, run) in enumerate(runs.iterrows()):
        label, rank = choices.get(run["choice"], ("", DASH))
        recorded = stored[run["run_id"]]
        rows.append(
            {
                "rank": rank,
                "label": label or run["name"],
                "seed": run["seed"],
                "id": recorded.run_id,
                "page": f"{without_passwords(found.uri)}/{run_page(recorded.experiment_id, recorded.run_id)}"
                if found.uri.startswith(SERVER)
                else "",
                "status": run["status"],
                "error": run["error"],
                "settings": [run["params"].get(name, DASH) for name in settings],
                "cells": [(one.texts[place], sortable(one.values[place])) for one in cells],
            }
        )
    return {"settings": settings, "headings": [one.heading for one in cells], "rows": rows}


def _settings(runs: Sequence[StoredRun]) -> dict[str, dict[str, str]]:
    """For each measurement its settings, as the runs of a group share them; what differs is told with all values."""
    values: dict[str, dict[str, set[str]]] = {}
    for run in runs:
        for name, value in run.params.items():
            start, _, rest = name.partition(".")
            if start == MEASUREMENT and rest:
                entry, _, setting = rest.partition(".")
                values.setdefault(entry, {}).setdefault(setting, set()).add(value)
    return {
        entry: {name: " or ".join(sorted(known)) for name, known in of_entry.items() if name}
        for entry, of_entry in values.items()
    }


def _facts(runs: Sequence[StoredRun]) -> dict[str, str]:
    """What the runs of a group ran on, and for how long."""
    seeds = {name: _values(run.params.get(f"seeds.{name}") for run in runs) for name in SEEDS}
    versions = {
        tag.removeprefix(VERSION): _values(run.tags.get(tag) for run in runs)
        for tag in sorted({tag for run in runs for tag in run.tags if tag.startswith(VERSION)})
    }
    commits = {
        run.tags["mlflow.source.git.commit"][:12]
        + (" with uncommitted changes" if run.tags.get("git.uncommitted_changes") == "yes" else "")
        for run in runs
        if "mlflow.source.git.commit" in run.tags
    }
    phases: dict[str, float] = {}
    for run in runs:
        for name, value in run.metrics.items():
            if name.startswith(WALL_TIMES) and np.isfinite(value):
                phase = name.removeprefix(WALL_TIMES).removesuffix("_s").replace("_", " ")
                phases[phase] = phases.get(phase, 0.0) + value
    longest = sorted(phases.items(), key=lambda phase: -phase[1])
    facts = {
        "runs": f"{len(runs)}, of which {sum(run.status == 'FINISHED' for run in runs)} finished",
        "frames": _values(run.tags.get(FRAMES) for run in runs),
        "notes on the data": _values(run.tags.get("data.notes") for run in runs),
        "seeds": "; ".join(f"{name} {value}" for name, value in seeds.items() if value),
        "wall time": f"{duration(sum(phases.values()))} over all runs: "
        + ", ".join(f"{name} {duration(value)}" for name, value in longest)
        if phases
        else "",
        "machine": _values(run.tags.get("system.machine") for run in runs),
        "GPU": _values(run.tags.get("system.gpu") for run in runs),
        "git commit": ", ".join(sorted(commits)),
        "packages": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return {name: value for name, value in facts.items() if value}


def _limits(verdict: Verdict, runs: Sequence[StoredRun]) -> list[str]:
    """What the numbers of a group do not say, in sentences."""
    params = runs[0].params
    seeds = max((len(choice.seeds) for choice in verdict.choices), default=0)
    said = []
    if LOSS_ENTROPY in verdict.runs:
        split = params.get("measurement.landscape.split", "train")
        said.append(
            f"S says how flat the loss is around the trained weights, on the {split} frames, along random directions, "
            "within the window and at the thermal errors of the settings below. It is a property of a minimum, not an "
            "error: whether flatter means more robust is the hypothesis it was introduced for, and not settled. "
            "Between architectures it is to be read with care, since their weights are laid out, and so scaled, in "
            "different ways."
        )
    said.append(
        "Errors on test sets say how well labels are met on frames that the reference method has visited. A potential "
        "may meet them and still lead its own dynamics to where no frame was."
    )
    if TIME_TO_FAILURE in verdict.runs:
        said.append(
            "Time to failure says how long dynamics stay within crude bounds, for one starting geometry at one "
            "temperature. A replica that survives is not thereby right: no energy, force or rate is checked along the "
            "way; and times that reach the end of the simulation are lower bounds." + _thermostat(params)
        )
    test = (
        f"Choices are told apart at a level of {LEVEL:.0%}, with p values corrected by Holm's method for the number of "
        "choices that are compared with the best. What cannot be told apart is not thereby equal. "
    )
    test += (
        "Each choice was trained with one seed: the answer is one about these runs, and other seeds may order the "
        "choices otherwise."
        if seeds <= 1
        else "Choices are compared within seeds, that is between runs with the same initial weights and batches."
    )
    return [*said, test]


def _thermostat(params: Mapping[str, str]) -> str:
    if params.get("measurement.stability.thermostat") != "berendsen":
        return ""
    constant = float(params.get("measurement.stability.thermostat_fs", "250"))
    return (
        f" The Berendsen thermostat, with its time constant of {constant:g} fs, needs about "
        f"{TO_TARGET * constant / 1000.0:.1f} ps to bring a molecule to within a "
        "tenth of its target: failures before that happen at the "
        "temperature that was reached by then, which is lower."
    )


def _histories(found: "Comparison") -> Histories:
    """The learning curves of all runs, by metric and run id."""
    return {
        name: {run.run_id: metric_history(found.uri, run.run_id, name) for run in found.stored if name in run.metrics}
        for name in HISTORIES
    }


def _commands(found: "Comparison") -> list[str]:
    """What was typed to start the sweeps whose runs are compared, for a shell, each with the name of its sweep."""
    started = {run.parent for run in found.stored}
    sweeps = found.sweeps or [sweep for sweep in stored_sweeps(found.uri) if sweep.run_id in started]
    return [f"{_command(sweep)}  # {sweep.name}" for sweep in sweeps]


def _command(sweep: StoredRun) -> str:
    name, typed = sweep.tags.get(CONFIG_NAME, ROOT_CONFIG), sweep.tags.get(OVERRIDES, "none")
    # Overrides are stored with single blanks between them; one may hold blanks itself, but then no key before an "=".
    overrides = [] if typed == "none" else re.split(r"\s+(?=[+~]*[\w./@:-]+=|~)", typed)
    config = [] if name == ROOT_CONFIG else [f"--config-name={name}"]
    return " ".join(["mlip-sweep", "--multirun", *config, *map(shlex.quote, overrides)])


def _look(style: Style) -> Markup:
    """A short line with the colour, dashes and marker of a choice, as SVG."""
    shapes = {
        "square": '<rect x="11" y="2" width="8" height="8"/>',
        "triangle-up": '<path d="M15 1 L20 10 L10 10 Z"/>',
        "circle": '<circle cx="15" cy="6" r="4"/>',
    }
    return Markup(
        f'<svg class="look" width="30" height="12" aria-hidden="true" fill="{style.colour}" stroke="{style.colour}">'
        f'<line x1="0" y1="6" x2="30" y2="6" stroke-width="2" stroke-dasharray="{style.strokes}"/>'
        f"{shapes[style.symbol]}</svg>"
    )


def _json(text: str) -> Markup:
    """JSON that may stand in a page's script: nothing in it can end the script."""
    for character, escaped in UNSAFE.items():
        text = text.replace(character, escaped)
    return Markup(text)


def _file(name: str) -> Markup:
    return Markup((PAGE / name).read_text(encoding="utf-8"))


def _values(values: Iterable[str | None]) -> str:
    """The different values, in the order of their appearance, numbers in theirs."""
    known = list(dict.fromkeys(value for value in values if value))
    if all(value.lstrip("-").isdigit() for value in known):
        known.sort(key=int)
    return ", ".join(known)
