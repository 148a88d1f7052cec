"""One parent run in MLflow for a whole multirun, under which its jobs are gathered and compared.

Hydra calls `SweepParent` in the process that starts the jobs; the jobs, in whatever process, find their parent through
the sweep's folder. Kept light: every job's process imports this module.
"""

import atexit
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlip_sweep.composition import HYDRA_PACKAGES, check_targets, named_packages
from mlip_sweep.config import plain, tracking_of
from mlip_sweep.data.sources import check_sources
from mlip_sweep.errors import InputError, without_passwords
from mlip_sweep.multirun import folder, opening, trials
from mlip_sweep.multirun.cohorts import check_launcher
from mlip_sweep.multirun.direction import check_direction, objectives
from mlip_sweep.multirun.names import constants, varied_keys
from mlip_sweep.multirun.progress import SweepProgress, grid_size, grid_values, is_search, runs_here
from mlip_sweep.multirun.run_list import save_view
from mlip_sweep.tracking import read, store
from mlip_sweep.tracking.outbox import send_kept
from mlip_sweep.tracking.run import RunRecord, terminable, terminations
from mlip_sweep.tracking.sweep import CONFIG_NAME, OVERRIDES, open_sweep, reopen_sweep

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

log = logging.getLogger(__name__)


_at_work: "_OpenSweep | None" = None  # the multirun that this process has open


def close_interrupted() -> str:
    """After Ctrl-C: compare what was recorded until now, and close the parent run, if this process has one open.

    Returns:
        What to type to go on; "" where no multirun is open.
    """
    return _at_work.interrupt() if _at_work is not None else ""


class SweepParent(Callback):
    """Opens the parent run of a multirun, and closes it with a comparison of its children. A single run has none."""

    def __init__(self) -> None:
        self._open: _OpenSweep | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_open": None}  # launchers send a copy to each job, which has nothing to close

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Prepare the store before any worker comes to it, and open the parent."""
        with _errors_end_the_command():
            log.info(opening.of_multirun(config))  # before anything heavy is imported
            self._open = _OpenSweep(config)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Take the passwords out of the files that Hydra has written, for a single run as for a job."""
        hydra_cfg = config.hydra
        if hydra_cfg.output_subdir is not None:
            hide_passwords(Path(hydra_cfg.runtime.output_dir, hydra_cfg.output_subdir))
        if hydra_cfg.mode == RunMode.MULTIRUN:
            hide_passwords(folder.of(hydra_cfg).path)

    def on_job_end(self, config: DictConfig, job_return: "JobReturn", **kwargs: Any) -> None:
        """Say how far the multirun is, where its jobs run in this process."""
        if self._open is not None:
            self._open.a_run_has_ended()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Compare what the jobs have recorded, show it, and close the parent."""
        if self._open is not None:
            with _errors_end_the_command():
                self._open.end()
            self._open = None


def hide_passwords(place: Path) -> None:
    """Rewrite the YAML files of a folder that hold the password of a URL."""
    for file in place.glob("*.yaml"):
        text = file.read_text()
        if without_passwords(text) != text:
            fresh = file.with_suffix(".new")
            fresh.write_text(without_passwords(text))
            fresh.replace(file)  # whole at any moment: other jobs may read it


@contextmanager
def _errors_end_the_command() -> Iterator[None]:
    """Hydra makes a warning of a callback's exception, and goes on to status 0; this it lets through."""
    try:
        yield
    except InputError as error:
        raise SystemExit(f"mlip-sweep: {error}") from error
    except Exception as error:
        raise SystemExit(without_passwords("".join(traceback.format_exception(error)))) from error


class _OpenSweep:
    """The parent run while its jobs are at work."""

    rec: RunRecord

    def __init__(self, config: DictConfig) -> None:
        if not any(key.split(".")[0] == "dataset" for key in varied_keys(config.hydra)):
            check_sources(config.get("dataset"))  # else each job looks for its own
        self._check_packages(config)
        tracking = tracking_of(config.tracking, objectives(config))
        check_direction(config)
        check_launcher(config.hydra.launcher)
        self.uri = store.prepare(tracking.uri)
        self.experiment = tracking.experiment
        store.experiment_id(self.uri, self.experiment)  # makes it where it is new
        self._config = config
        self.folder = folder.of(config.hydra)
        send_kept(self.uri, self.folder.path)
        read.close_abandoned(self.uri, self.experiment, sweeps=True)
        try:
            self.folder.join(self._parent, constants(list(config.hydra.overrides.task)))
            self.name = self.rec.name
            self._progress = None if is_search(config.hydra) else self._new_progress()  # a search shows its own
        except BaseException as error:
            if "rec" in vars(self):
                self.rec.fail(error)
            raise
        self._signals = ExitStack()
        self._signals.enter_context(terminable())
        global _at_work
        _at_work = self
        # Hydra leaves on_multirun_end out after an interrupt, and after a grid in which one job has failed.
        atexit.register(self._end_early)

    @staticmethod
    def _check_packages(config: DictConfig) -> None:
        """Check what is made for the multirun as a whole; each job checks its own config."""
        packages = named_packages(config.get("packages"))
        check_targets(plain(config.get("measurement"), "measurement"), packages, "measurement")
        for part in ("sweeper", "launcher"):
            check_targets(OmegaConf.to_container(config.hydra[part]), (*packages, *HYDRA_PACKAGES), f"hydra.{part}")

    def _new_progress(self) -> SweepProgress:
        config = self._config
        own_bars = OmegaConf.select(config, "trainer.progress") is not False
        return SweepProgress(
            (self.uri, self.experiment, self.rec.run_id),
            grid_size(config),
            grid=grid_values(config),
            between_runs=runs_here(config.hydra) and (own_bars or not sys.stderr.isatty()),
            takes_finished=any(OmegaConf.select(config, key) is not False for key in ("resume", "trainer.resume")),
        )

    def a_run_has_ended(self) -> None:
        """A job of this process has returned."""
        if self._progress is not None:
            self._progress.a_run_has_ended()

    def _parent(self, known: str | None) -> str:
        """Open the parent that this folder knows, or that a resumed grid had in another folder; else a new one."""
        stored = {run.run_id: run for run in read.stored_sweeps(self.uri, self.experiment)}
        if known not in stored and OmegaConf.select(self._config, "resume"):
            same = [run.run_id for run in stored.values() if self._described().items() <= run.tags.items()]
            known = same[-1] if same else None
        if known is not None and known in stored:
            self.rec = reopen_sweep(self.uri, self.experiment, known, self.folder.path)
        else:
            self.rec = self._new()
        save_view(self.rec, self._config)
        return self.rec.run_id

    def _described(self) -> dict[str, str]:
        """What makes two multiruns the same sweep."""
        typed = [text for text in self._config.hydra.overrides.task if not text.startswith("resume=")]
        return {
            CONFIG_NAME: str(self._config.hydra.job.config_name),
            OVERRIDES: without_passwords(" ".join(typed)) or "none",
        }

    def _new(self) -> RunRecord:
        config = self._config
        name = config.hydra.job.config_name or config.hydra.job.name
        own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        return open_sweep(
            self.uri,
            self.experiment,
            str(name),
            tags=self._described(),
            config=without_passwords(OmegaConf.to_yaml(own)),
            folder=self.folder.path,
        )

    def end(self) -> None:
        """Every job has returned: compare their runs, show it, close the parent.

        Raises:
            InputError: no run has finished.
        """
        self._close()

    def interrupt(self) -> str:
        """Ctrl-C has ended the jobs: compare their runs all the same, and close the parent; what to type to go on."""
        self._close_early(KeyboardInterrupt())
        return f"the same command with hydra.sweep.dir={opening.shown(self.folder.path)} goes on"

    def _end_early(self) -> None:
        """The process ends without on_multirun_end."""
        last = getattr(sys, "last_value", None)
        self._close_early(next(iter(terminations), last if isinstance(last, KeyboardInterrupt) else None))

    def _close_early(self, reason: BaseException | None) -> None:
        try:
            self._close(reason)
        except Exception:  # the process is ending: what went wrong stands in the parent's record
            log.debug("the sweep ended early", exc_info=True)

    def _close(self, reason: BaseException | None = None) -> None:
        """Compare the runs, and close the parent: as what has ended the sweep early says, where anything has."""
        global _at_work
        _at_work = None
        self._disarm()
        if not self.folder.leave():
            log.info("%s: other processes go on with it; the last one compares the runs", self.name)
            return
        try:
            self._conclude()
            if reason is None:
                self.rec.finish()
        except BaseException as error:
            self.rec.fail(reason or error)
            raise
        if reason is not None:
            self.rec.fail(reason)

    def _conclude(self) -> None:
        """Put the runs side by side, and say which is best."""
        from mlip_sweep.comparison.compare import REPORT, compare
        from mlip_sweep.multirun.best import record_best

        read.close_abandoned(self.uri, self.experiment, self.rec.run_id, all_have_ended=True)
        trials.tag_runs(self.uri, read.stored_runs(self.uri, self.experiment, self.rec.run_id), self._config.hydra)
        stored = read.stored_runs(self.uri, self.experiment, self.rec.run_id)
        children = [run for run in stored if read.SUPERSEDED not in run.tags]
        finished = sum(run.status == "FINISHED" for run in children)
        self.rec.metrics({"runs": len(children), "runs_finished": finished})
        for file in trials.files(self.folder.path):
            self.rec.artifact(file)
        if finished == 0:
            raise InputError(f"sweep {self.name}: none of its {len(children)} runs has finished")
        output = self.folder.path / "comparison"
        comparison = compare(self.uri, self.experiment, self.rec.run_id, output, report=True)
        self.rec.artifact(output, "comparison")
        _, best = record_best(self.rec, comparison.verdicts[0], children, self._config)
        page = store.run_page(self.rec.experiment_id, self.rec.run_id, REPORT)
        self.rec.description("\n\n".join([comparison.markdown(page), *(f"- {line}" for line in best)]))
        comparison.show(self.name)

    def _disarm(self) -> None:
        if self._progress is not None:
            self._progress.close()
            self._progress = None
        atexit.unregister(self._end_early)
        self._signals.close()
