"""The run list of a multirun in MLflow's UI: its own runs, by what varies and by what they are compared by."""

from omegaconf import DictConfig

from mlip_sweep.multirun.direction import declared_for, maximised, objectives
from mlip_sweep.multirun.names import FIRST, varied_keys
from mlip_sweep.tracking import read, store
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.tracking.views import START_TIME, View, charts, compared, metric


def save_view(rec: RunRecord, config: DictConfig) -> None:
    """Save the view of a multirun, best run first, under the id of its parent run: `store.page_of` finds it there.

    The page of the parent links to it as long as there is nothing else to tell of the multirun.

    Args:
        rec: Record of the parent run.
        config: Config of the multirun.
    """
    declared = declared_for(config)
    names = objectives(config)
    params = varied_keys(config.hydra) or FIRST[:2]
    view = View(
        name=rec.stored_name(),
        columns=compared(names, declared, params),
        runs=f"{read.filed_under(rec.run_id)} AND {read.CURRENT}",
        order_by=metric(names[0]) if names else START_TIME,
        ascending=bool(names) and not maximised(config, names, declared)[0],
        charts=charts(names, params),
    )
    store.save_view(rec.uri, rec.experiment_id, rec.run_id, view)
    if "mlflow.note.content" not in rec.stored_tags():
        rec.description(f"[the runs of this sweep]({store.page_of(rec.uri, rec.run_id)}), the best first")
