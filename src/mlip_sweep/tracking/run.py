"""Record one run: what went in, how long each phase took, what was found, how it ended."""

import logging
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mlip_sweep import clock
from mlip_sweep.errors import without_passwords
from mlip_sweep.metrics import Metric, to_json, wall_time
from mlip_sweep.tracking import environment, read, store
from mlip_sweep.tracking.outbox import Outbox

if TYPE_CHECKING:
    from mlip_sweep.data.dataset import Dataset
    from mlip_sweep.measurement.interface import Report
    from mlip_sweep.tracking.logger import MetricsLogger

PARAM_CHARACTERS = 6000  # MLflow's limits
TAG_CHARACTERS = 5000
PARAMS_PER_CALL = 100
FIGURE_DPI = 150
FRAMES = "data.frames"  # tag: how many frames each split has

log = logging.getLogger(__name__)

ENDING = (signal.SIGTERM, signal.SIGHUP)  # a scheduler or a person ends this process, or its terminal was closed


class Terminated(SystemExit):
    """A signal of `ENDING` came."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


terminations: list[Terminated] = []  # of this process: the signal that has come while `terminable`


class RunRecord:
    """An open run in MLflow. Made by `record`.

    Args:
        uri: absolute URI of the store.
        experiment_id: where the run is filed.
        run_id: MLflow's id of the run.
        folder: of the run, which keeps what the store cannot take; None for a run without one.

    Attributes:
        uri: as given.
        experiment_id: as given.
        run_id: as given.
        name: of the run.
        tags: of the run, as they were stored, and as they were set since.
        current_phase: the phase under way, or None.
    """

    def __init__(self, uri: str, experiment_id: str, run_id: str, folder: Path | None = None) -> None:
        self.uri = uri
        self.experiment_id = experiment_id
        self.run_id = run_id
        self.current_phase: str | None = None
        self.outbox = Outbox(uri, run_id, folder)
        self._folder = folder
        stored = store.client(uri).get_run(run_id)
        self.name = str(stored.info.run_name)
        self.tags: dict[str, str] = dict(stored.data.tags)
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a phase of the run; a name that comes again adds to its time. Failed phases count too."""
        outer, self.current_phase = self.current_phase, name
        start = clock.now()
        try:
            yield
            self.current_phase = outer  # after an error it stays: the record names the phase that failed
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + clock.now() - start
            self.metrics({wall_time(name): self._seconds[name]})

    def params(self, config: Mapping[str, Any]) -> None:
        """Record a config, nested or flat, as parameters; call it once for each key, since MLflow never changes one."""
        params = [(key, _shortened(str(value), PARAM_CHARACTERS)) for key, value in flatten(config).items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.outbox.write(do="params", values=params[start : start + PARAMS_PER_CALL])

    def config(self, yaml: str) -> None:
        """Keep the resolved config whole, as config.yaml."""
        self.outbox.write(do="text", text=yaml, file="config.yaml")

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at once; NaN is kept as NaN."""
        now = int(time.time() * 1000)
        self.outbox.write(do="metrics", values=[(key, float(value), now, step) for key, value in values.items()])

    def tag(self, name: str, value: object) -> None:
        """Record a word about the run."""
        self.tags[name] = _shortened(str(value), TAG_CHARACTERS)
        self.outbox.write(do="tag", name=name, value=self.tags[name])

    def describe_data(self, dataset: "Dataset", checksum: str) -> None:
        """Record which data the run saw, as tags and as MLflow's dataset inputs."""
        from mlip_sweep.tracking.inputs import dataset_inputs

        self.outbox.write(do="inputs", values=dataset_inputs(dataset))
        self.tag(read.DATA, checksum)
        self.tag("data.sources", "\n".join(f"{sha}  {source}" for source, sha in dataset.checksums.items()))
        counts = {"train": dataset.train, "validation": dataset.validation, **dataset.tests}
        self.tag(FRAMES, ", ".join(f"{label} {len(frames)}" for label, frames in counts.items()))
        if dataset.notes:
            self.tag("data.notes", "\n".join(dataset.notes))

    def declare(self, measurement: str, metrics: Iterable[Metric]) -> None:
        """Store the declarations of a measurement's metrics, as far as anything is to be known of them."""
        told = [metric for metric in metrics if metric.better or metric.column]
        self.outbox.write(do="tag", name=f"{read.DECLARED}{measurement}", value=to_json(told))

    def supersede(self, run_id: str) -> None:
        """Record that this run has taken the place of another, which was interrupted."""
        if run_id != self.run_id:
            self.outbox.write(do="tag", run=run_id, name=read.SUPERSEDED, value=self.run_id)

    def description(self, text: str) -> None:
        """What the run's page in the UI says first, in Markdown."""
        self.tag("mlflow.note.content", text)

    def artifact(self, path: Path | str, folder: str | None = None) -> None:
        """Keep a file, or a folder with all in it, under `folder` of the run's artifacts."""
        self.outbox.write(do="folder" if Path(path).is_dir() else "file", path=str(path), to=folder)

    def model(self, folder: Path | str) -> str | None:
        """Keep a checkpoint folder as the logged model of the run, whose address becomes the tag "model".

        Returns:
            The model's id: `models:/<id>` finds it again. None while the store is away.
        """
        model_id: str | None = self.outbox.write(do="model", path=str(folder))
        if model_id is not None:
            self.tags["model"] = f"models:/{model_id}"
        return model_id

    def where(self) -> str:
        """How a person opens the run in a browser; "" while the store is away."""
        return self.outbox.ask(lambda: store.ui_hint(self.uri, self.run_id), "")

    def page_of_sweep(self) -> str | None:
        """Where the UI shows the runs of the run's sweep; None where there is no such page, or the store is away."""
        sweep = self.tags.get(read.PARENT, "")
        return self.outbox.ask(lambda: store.view_page(self.uri, self.experiment_id, sweep), None)

    def report(self, name: str, report: "Report") -> None:
        """Keep what a measurement found: metrics, and a folder of that name.

        The folder holds curves.npz (arrays), <table>.csv, <figure>.png, other files and notes.txt, each where the
        report has any.
        """
        import numpy as np

        self.metrics(report.metrics)
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            if report.arrays:
                np.savez_compressed(here / "curves.npz", **report.arrays)  # type: ignore[arg-type]
            for table_name, table in report.tables.items():
                table.to_csv(here / f"{table_name}.csv", index=False)
            for figure_name, figure in report.figures.items():
                figure.text(0.004, 0.004, self.name, fontsize=5, color="0.45")  # it may be shown elsewhere
                figure.savefig(here / f"{figure_name}.png", dpi=FIGURE_DPI)
            for file_name, write in report.files.items():
                (here / file_name).parent.mkdir(parents=True, exist_ok=True)
                write(here / file_name)
            if report.notes:
                (here / "notes.txt").write_text("\n".join(report.notes) + "\n")
                self.tag(f"notes.{name}", "\n".join(report.notes))
            if any(here.iterdir()):
                self.artifact(folder, name)

    @cached_property
    def logger(self) -> "MetricsLogger":
        """The logger for Lightning's Trainer: it writes in the background and is flushed when the run ends."""
        from mlip_sweep.tracking.logger import MetricsLogger  # Lightning takes seconds to import

        return MetricsLogger(self.outbox, self.run_id)

    def finish(self) -> None:
        """Close the run as FINISHED, after every metric has arrived."""
        self._flush()
        self._end("FINISHED")

    def fail(self, error: BaseException) -> None:
        """Close the run as KILLED (ended from outside, or pruned) or FAILED, with the reason."""
        pruned = any(kind.__name__ == "TrialPruned" for kind in type(error).__mro__)  # Optuna is not imported here
        killed = pruned or isinstance(error, KeyboardInterrupt | Terminated)
        try:
            if pruned:
                self.tag("pruned", str(error) or "yes")
            self.tag("error", f"stopped by {error.signal}" if isinstance(error, Terminated) else one_line(error))
            if self.current_phase:
                self.tag("error.phase", self.current_phase)
            if not killed:
                text = without_passwords("".join(traceback.format_exception(error)))
                self.outbox.write(do="text", text=text, file="error.txt")
            self._flush()
        finally:
            self._end("KILLED" if killed else "FAILED")

    def _end(self, status: str) -> None:
        """Close the run with a status, and say what has not arrived, where it is kept and how it is sent."""
        self.outbox.write(do="end", status=status, time=int(time.time() * 1000))
        if not self.outbox.send():
            log.warning(
                "%s: run %s is %s, but the store %s takes nothing: what it lacks is kept in %s; once it is back, "
                "%s sends it",
                *(self.name, self.run_id, status, without_passwords(self.uri), self.outbox.kept_in),
                self._sent_by(),
            )

    def _sent_by(self) -> str:
        """What a person types to have sent what is kept."""
        if self.tags.get(read.KIND) == read.SWEEP:
            return f"the same command with hydra.sweep.dir={self._folder}"
        if self.tags.get(read.KIND) != "run":
            return f"mlip-compare, typed in {self._folder},"
        if read.PARENT in self.tags and self._folder is not None:
            return f"the same command with hydra.sweep.dir={self._folder.parent}"
        return f"the same command with hydra.run.dir={self._folder}"

    def _flush(self) -> None:
        if "logger" in vars(self):
            self.logger.flush()


@contextmanager
def record(
    *,
    uri: str,
    experiment: str,
    name: str,
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    parent_run_id: str | None = None,
    run_id: str | None = None,
    folder: Path | None = None,
) -> Iterator[RunRecord]:
    """Open a run, and close it as it ends: FINISHED, FAILED, or KILLED by Ctrl-C or a signal. Errors go on their way.

    Package versions, the commit and the machine are recorded without asking.

    Args:
        uri: the store, as `store.prepare` takes it.
        experiment: the name that runs are filed under.
        name: what a reader knows the run by.
        params: the resolved config, nested or flat.
        tags: words about the run.
        parent_run_id: the run of the sweep that this one belongs to.
        run_id: a run of the same config that was interrupted, to be gone on with instead of opening another.
        folder: of the run, which keeps what the store cannot take while it is away; None raises its errors instead.

    Raises:
        InputError: the store does not serve.
    """
    uri = store.prepare(uri)
    experiment_id = store.experiment_id(uri, experiment)
    store.offer_all_runs(uri, experiment_id)
    read.close_abandoned(uri, experiment)
    described = {
        "kind": "run",
        **environment.recorded(),
        **environment.machine(),
        **(tags or {}),
    }
    if parent_run_id:
        described |= {read.PARENT: parent_run_id, read.UNDER: parent_run_id}
    described = {key: _shortened(value, TAG_CHARACTERS) for key, value in described.items()}
    with terminable():
        goes_on = run_id is not None
        if run_id is not None:
            store.reopen(uri, run_id, described)
        else:
            run_id = store.create_run(uri, experiment_id, name, described)
        rec = RunRecord(uri, experiment_id, run_id, folder)
        try:
            if params and not goes_on:
                rec.params(params)
            yield rec
            rec.finish()
        except BaseException as error:
            _close(rec, error)
            raise


@contextmanager
def terminable() -> Iterator[None]:
    """While it lasts, SIGTERM and SIGHUP raise `Terminated`, so that records are closed; the handlers before come back.

    A signal that is ignored, as under nohup, stays so. Only the main thread may set handlers: in any other this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in ENDING}
    watched = [number for number in ENDING if number == signal.SIGTERM or before[number] is not signal.SIG_IGN]

    def stop(number: int, frame: object) -> NoReturn:
        for same in watched:
            signal.signal(same, signal.SIG_IGN)  # a second signal must not break off the closing
        terminations.append(Terminated(number))
        raise terminations[-1]

    for number in watched:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in watched:
            signal.signal(number, before[number] or signal.SIG_DFL)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config as dotted names -> values, as a reader wants them.

    What an entry instantiates stands under the entry's own name, without its module: `model: NequIP`. The other
    underscore keys of Hydra say how, not what, and are left out (config.yaml keeps them).
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if key == "_target_" and prefix:
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif str(key).startswith("_"):
            continue
        elif isinstance(value, Mapping) and not value:
            flat[name] = "none"  # a choice such as averaging=none, which would be missing beside the others
        elif isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = without_passwords(value) if isinstance(value, str) else value
    return flat


def one_line(error: BaseException) -> str:
    """An error as `Type: message`, in one line."""
    return _shortened(without_passwords(" ".join(f"{type(error).__name__}: {error}".rstrip(": ").split())), 500)


def timestamp() -> str:
    """Now, to the second, in UTC: for names."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _close(rec: RunRecord, error: BaseException) -> None:
    """Close after an error; trouble with the store joins the first error as a note instead of hiding it."""
    try:
        rec.fail(error)
    except Exception as trouble:
        error.add_note(f"the run {rec.run_id} could not be closed in {store.ui_hint(rec.uri)}: {one_line(trouble)}")


def _shortened(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
