"""Which run of a multirun is the best, and under which name its model is registered."""

from collections.abc import Sequence

import numpy as np
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.comparison.runs import declared_metrics
from mlip_sweep.metrics import objective_metric
from mlip_sweep.multirun import trials
from mlip_sweep.multirun.direction import maximised, objectives
from mlip_sweep.tracking.models import BEST, register
from mlip_sweep.tracking.read import StoredRun
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.store import page_of


def record_best(rec: RunRecord, runs: Sequence[StoredRun], config: DictConfig) -> list[str]:
    """Record the best run on its parent, and register its model where `tracking.register` gives it a name.

    Args:
        rec: Record of the parent run.
        runs: The runs of its children.
        config: Config of the multirun.

    Returns:
        Lines of Markdown that say which run is the best, and under which name its model is registered.
    """
    names = objectives(config)
    front = best(runs, names, maximised(config, names, declared_metrics(runs)))
    if front and len(names) == 1:
        winner = front[0]
        rec.metrics({objective_metric(names[0]): winner.metrics[objective_metric(names[0])]})
        tags = {"best.run": winner.name, "best.run_id": winner.run_id, "best.trial": winner.tags.get(trials.NUMBER)}
        for tag, value in tags.items():
            if value is not None:
                rec.tag(tag, value)
    lines = [f"{'best' if len(names) == 1 else 'on the Pareto front'}: {_line(rec, run, names)}" for run in front]
    name = OmegaConf.select(config, "tracking.register")
    if name and front and (model := front[0].tags.get("model")):
        version = register(rec.uri, name, model.removeprefix("models:/"), BEST)
        rec.tag("registered", f"models:/{name}/{version}")
        lines.append(f"registered as `models:/{name}@{BEST}`, version {version}")
    return lines


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
