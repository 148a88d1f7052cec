"""Which run of a multirun is the best, and under which name its model is registered."""

from collections.abc import Sequence

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.comparison.runs import declared_metrics
from mlip_sweep.comparison.verdict import Choice, Verdict
from mlip_sweep.metrics import objective_metric
from mlip_sweep.multirun import trials
from mlip_sweep.multirun.direction import maximised, objectives
from mlip_sweep.tracking.models import BEST, COMMITTEE, register, register_committee
from mlip_sweep.tracking.read import StoredRun
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.store import page_of


def record_best(
    rec: RunRecord, found: Verdict, runs: Sequence[StoredRun], config: DictConfig
) -> tuple[str | None, list[str]]:
    """Record on the parent which run is to be trusted, and register its model where `tracking.register` says so.

    The run is that of the verdict; where nothing was measured that a verdict goes by, that of the best objective. Where
    its choice has several seeds, they are registered too, as a committee. The parent's own metrics are those of the
    choice, so that sweeps can be told by them in the list of runs.

    Args:
        rec: Record of the parent run.
        found: The verdict on the runs.
        runs: The runs of its children.
        config: Config of the multirun.

    Returns:
        What the model is registered as, `models:/NAME/VERSION`, or None; and lines of Markdown that say which runs are
        the best by the objectives.
    """
    names = objectives(config)
    front = best(runs, names, maximised(config, names, declared_metrics(runs)))
    by_verdict = [run for run in runs if run.run_id == found.run_id] if found.measure else []
    winner = next(iter([*by_verdict, *front[:1]]), None)
    if found.best is not None:
        rec.metrics({name: one.mean for name, one in found.best.estimates.items() if one.n})
    if front and len(names) == 1:
        rec.metrics({objective_metric(names[0]): front[0].metrics[objective_metric(names[0])]})
    if winner is not None:
        tags = {"best.run": winner.name, "best.run_id": winner.run_id, "best.trial": winner.tags.get(trials.NUMBER)}
        for tag, value in tags.items():
            if value is not None:
                rec.tag(tag, value)
    word = "best objective" if len(names) == 1 else "on the Pareto front"
    lines = [f"{word}: {_line(rec, run, names)}" for run in front]
    name = OmegaConf.select(config, "tracking.register")
    registered = None
    if name and winner is not None and (model := winner.tags.get("model")):
        version = register(rec.uri, name, model.removeprefix("models:/"), BEST)
        registered = f"models:/{name}/{version}"
        rec.tag("registered", registered)
        lines.append(f"registered as `models:/{name}@{BEST}`, version {version}")
        choice = next((one for one in found.choices if winner.run_id in set(one.runs["run_id"])), None)
        members = committee_of(choice, runs) if choice is not None else {}
        if len(members) > 1 and (version_of_all := register_committee(rec, name, members)) is not None:
            rec.tag("registered.committee", f"models:/{name}/{version_of_all}")
            lines.append(
                f"its {len(members)} seeds are registered as `models:/{name}@{COMMITTEE}`, version {version_of_all}"
            )
    return registered, lines


def committee_of(choice: Choice, runs: Sequence[StoredRun]) -> dict[str, str]:
    """The address of the model of each seed of a choice, by the seed's name; of several runs with one seed the last.

    Args:
        choice: Of a verdict.
        runs: Of the sweep, oldest first.
    """
    models = {run.run_id: run.tags.get("model") for run in runs}
    seeds = dict(zip(choice.runs["seed"], choice.runs["run_id"], strict=True))
    return {
        f"seed_{seed.replace('/', '_')}": model
        for seed in choice.seeds
        if (model := models.get(seeds[seed])) is not None
    }


def best(runs: Sequence[StoredRun], names: Sequence[str], maximised: Sequence[bool]) -> list[StoredRun]:
    """The best run; of several objectives, those that no other run betters in all of them.

    Args:
        runs: Any runs; those that have not finished, or lack an objective, are passed over.
        names: Names of the objectives.
        maximised: For each objective, whether more is better.
    """
    wanted = [objective_metric(name) for name in names]
    complete = [run for run in runs if run.status == "FINISHED" and all(metric in run.metrics for metric in wanted)]
    if not names or not complete:
        return []
    values = np.array([[run.metrics[metric] for metric in wanted] for run in complete])
    costs = np.where(maximised, -values, values)  # (runs, objectives)
    if len(names) == 1:
        return [complete[int(costs.argmin())]]
    no_better = (costs[:, None] >= costs).all(axis=2)  # (runs, runs): run i is in no objective better than run j
    dominated = np.any(no_better & ~no_better.T, axis=1)
    return [run for run, is_dominated in zip(complete, dominated.tolist(), strict=True) if not is_dominated]


def _line(rec: RunRecord, run: StoredRun, names: Sequence[str]) -> str:
    values = ", ".join(f"{name} = {run.metrics[objective_metric(name)]:.4g}" for name in names)
    number = run.tags.get(trials.NUMBER)
    trial = f"trial {number}, " if number else ""
    return f"[{trial}{run.name}]({page_of(rec.uri, run.run_id)}): {values}"
