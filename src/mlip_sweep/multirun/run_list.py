"""The run list of a multirun in MLflow's UI: its own runs, by what varies and by what they are compared by."""

from omegaconf import DictConfig

from mlip_sweep.multirun.direction import declared_for, maximised, objectives
from mlip_sweep.multirun.names import FIRST, varied_keys
from mlip_sweep.tracking import read, store
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.views import START_TIME, View, charts, compared, metric


def save_view(rec: RunRecord, config: DictConfig) -> None:
    """Save the view of a multirun under the id of its parent run, where `store.page_of` finds it.

    The run stands first that is the best by what a verdict goes by, or by the objective where none of that is measured.
    The page of the parent links to it as long as there is nothing else to tell of the multirun.

    Args:
        rec: Record of the parent run.
        config: Config of the multirun.
    """
    from mlip_sweep.comparison.verdict import ORDER  # PyTorch takes seconds to import
    from mlip_sweep.measurement.chosen import declared_by, measurements_of

    declared = declared_for(config)
    names = objectives(config)
    measured = {one.name for one in declared_by(measurements_of(config).values())} if "measurement" in config else set()
    judged = next((measure for measure in ORDER if measure.metric in measured), None)  # as the verdict is reached
    by_objective = (metric(names[0]), not maximised(config, names, declared)[0]) if names else (START_TIME, False)
    order_by, ascending = (metric(judged.metric), not judged.more_is_better) if judged else by_objective
    params = varied_keys(config.hydra) or FIRST[:2]
    view = View(
        name=rec.name,
        columns=compared(names, declared, params),
        runs=f"{read.filed_under(rec.run_id)} AND {read.CURRENT}",
        order_by=order_by,
        ascending=ascending,
        charts=charts(names, params),
    )
    store.save_view(rec.uri, rec.experiment_id, rec.run_id, view)
    if "mlflow.note.content" not in rec.tags:
        rec.description(f"[the runs of this sweep]({store.page_of(rec.uri, rec.run_id)}), the best first")
