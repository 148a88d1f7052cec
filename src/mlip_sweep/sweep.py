"""A multirun as a whole: one parent run in MLflow, under which its jobs are gathered and compared.

Hydra calls `SweepParent` in the process that starts the sweep; the jobs, in whatever process, find their parent through
a file in the sweep's folder. Kept light: every job's process imports this module.
"""

import atexit
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.errors import InputError
from mlip_sweep.sweep_progress import SweepBar, grid_size
from mlip_sweep.tracking import environment, read, store
from mlip_sweep.tracking.run import RunRecord, terminable, timestamp

PARENT_FILE = "parent_run_id.json"
SIGNIFICANT_DIGITS = 4
NAME_CHARACTERS = 200
LEFT_OUT = ("dataset.", "measurement", "tracking", "trainer.progress", "trainer.threads", "trainer.resume", "objective")


class SweepParent(Callback):
    """Opens the parent run of a multirun, and closes it with a comparison of its children. A single run has none."""

    def __init__(self) -> None:
        self._open: _OpenSweep | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": None}  # launchers send a copy to each job, which has nothing to close

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the store before any worker comes to it, and open the parent."""
        try:
            self._open = _OpenSweep(config)
        except InputError as error:
            # Hydra makes a warning of a callback's exception and starts the jobs all the same; this it lets through.
            raise SystemExit(f"error: {error}") from error

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare what the jobs have recorded, show it, and close the parent."""
        if self._open is not None:
            self._open.end()
            self._open = None


class _OpenSweep:
    """The parent run while its jobs are at work."""

    def __init__(self, config: DictConfig) -> None:
        self.uri = store.prepare(config.tracking.uri)
        self.experiment = str(config.tracking.experiment)
        experiment_id = store.experiment_id(self.uri, self.experiment)
        self.folder = _folder(config.hydra)
        self.name = f"{config.hydra.job.config_name or config.hydra.job.name} {timestamp()}"
        read.close_abandoned(self.uri, self.experiment)
        run_id = self._known() or self._new(config, experiment_id)
        self.rec = RunRecord(self.uri, experiment_id, run_id)
        constants = _constants(list(config.hydra.overrides.task))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / PARENT_FILE).write_text(json.dumps({"run_id": run_id, "constants": constants}))
        # Hydra leaves on_multirun_end out after an interrupt, and after a grid in which one job has failed.
        total = grid_size(config)
        silent = OmegaConf.select(config, "trainer.progress") is False  # else the runs draw their own bars
        self._bar = SweepBar(self.uri, self.experiment, run_id, total) if total and silent else None
        self._signals = ExitStack()
        self._signals.enter_context(terminable())
        atexit.register(self._end_early)

    def _known(self) -> str | None:
        """The parent of an earlier start in the same folder, when a stored study is taken up again."""
        file = self.folder / PARENT_FILE
        if not file.exists():
            return None
        run_id = str(json.loads(file.read_text())["run_id"])
        client = store.client(self.uri)
        if run_id not in {run.run_id for run in read.stored_sweeps(self.uri, self.experiment)}:
            return None
        for name, value in environment.process_tags().items():
            client.set_tag(run_id, name, value)
        client.update_run(run_id, status="RUNNING")
        self.name = client.get_run(run_id).info.run_name
        return run_id

    def _new(self, config: DictConfig, experiment_id: str) -> str:
        overrides = list(config.hydra.overrides.task)
        tags = {
            "kind": "sweep",
            "overrides": " ".join(overrides) or "none",
            **environment.recorded(),
            **environment.process_tags(),
        }
        client = store.client(self.uri)
        run_id = str(client.create_run(experiment_id, tags=tags, run_name=self.name).info.run_id)
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        client.log_text(run_id, OmegaConf.to_yaml(own), "config.yaml")
        return run_id

    def end(self) -> None:
        """Every job has returned: compare their runs, show it, close the parent.

        Raises:
            InputError: no run has finished.
        """
        self._disarm()
        try:
            self._compare()
            self.rec.finish()
        except BaseException as error:
            self.rec.fail(error)
            raise

    def _end_early(self) -> None:
        """The process ends without on_multirun_end: what was recorded until now is compared all the same."""
        self._disarm()
        try:
            self._compare()
            stopped = any(run.status == "KILLED" and "pruned" not in run.tags for run in self._children())
            if stopped or isinstance(getattr(sys, "last_value", None), KeyboardInterrupt):
                raise InputError("the sweep was interrupted")
            self.rec.finish()
        except Exception as error:  # nobody is left to hear it: the record is
            self.rec.fail(error)

    def _compare(self) -> None:
        from mlip_sweep.comparison.compare import compare

        read.close_abandoned(self.uri, self.experiment, self.rec.run_id, over=True)
        children = self._children()
        finished = sum(run.status == "FINISHED" for run in children)
        self.rec.metrics({"runs": len(children), "runs_finished": finished})
        if finished == 0:
            raise InputError(f"sweep {self.name}: none of its {len(children)} runs has finished")
        output = self.folder / "comparison"
        found = compare(self.uri, self.experiment, self.rec.run_id, output)
        self.rec.artifact(output, "comparison")
        self.rec.description("\n".join(f"- {line}" for line in found.findings))
        found.show(self.name)

    def _children(self) -> list[read.StoredRun]:
        return read.stored_runs(self.uri, self.experiment, self.rec.run_id)

    def _disarm(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        atexit.unregister(self._end_early)
        self._signals.close()


def parent_of(hydra_cfg: Any) -> str | None:
    """The id of the parent run of a job of a multirun; None for a single run.

    Args:
        hydra_cfg: `HydraConfig.get()`.
    """
    return _parent_file(hydra_cfg).get("run_id")


def varied(hydra_cfg: Any) -> list[str]:
    """The overrides of a job, without those that its whole sweep shares; of a single run, what it trains and how."""
    overrides = list(hydra_cfg.overrides.task)
    if hydra_cfg.mode == RunMode.MULTIRUN:
        constants = set(_parent_file(hydra_cfg).get("constants", []))
        return [override for override in overrides if _key(override) not in constants]
    choices = hydra_cfg.runtime.choices
    told = {group: choices[group] for group in ("model", "dataset") if group in choices}
    named = [f"{group}={choice}" for group, choice in told.items()]
    return named + [o for o in overrides if _key(o) not in told and not _key(o).startswith(LEFT_OUT)]


def run_name(overrides: Sequence[str]) -> str:
    """A name that says what varied: `model=mace, rescaling=none`; "defaults" where nothing did.

    Long numbers keep four significant digits; the parameters of the run hold them whole.
    """
    parts = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        parts.append(f"{key}={_short_number(value)}")
    name = ", ".join(parts) or "defaults"
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def _folder(hydra_cfg: Any) -> Path:
    return Path(hydra_cfg.runtime.cwd) / hydra_cfg.sweep.dir


def _parent_file(hydra_cfg: Any) -> dict[str, Any]:
    if hydra_cfg.mode != RunMode.MULTIRUN:
        return {}
    file = _folder(hydra_cfg) / PARENT_FILE
    return dict(json.loads(file.read_text())) if file.exists() else {}


def _constants(overrides: list[str]) -> list[str]:
    """Keys to which a multirun's command line gives one value; Hydra may write that value otherwise in its jobs."""
    parser = OverridesParser.create()
    return [_key(text) for text in overrides if not parser.parse_override(text).is_sweep_override()]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _short_number(text: str) -> str:
    """A fraction with few digits; whole numbers, such as seeds, as they are."""
    try:
        short = f"{float(text):.{SIGNIFICANT_DIGITS}g}"
    except ValueError:
        return text
    return text if text.lstrip("-").isdigit() or len(text) <= len(short) else short
