"""A Lightning logger that writes metrics into an open run, in the background."""

import threading
import time
from argparse import Namespace
from collections import deque
from typing import Any

from pytorch_lightning.loggers.logger import Logger

from mlip_sweep.tracking.outbox import Outbox

EVERY_S = 5.0  # between two calls to the store: eight runs that train together spent a twentieth of a core on them at 2
METRICS_PER_CALL = 1000  # MLflow's limit


class MetricsLogger(Logger):
    """Sends what Lightning logs to a run that `mlip_sweep.tracking.run.record` has opened, and closes.

    Metrics are gathered and sent together every few seconds, from a thread of their own. MLflow's asynchronous logging
    makes a call for each, and takes a second to end; Lightning's MLFlowLogger would end the run itself, cut parameters
    to 250 characters and resume as FINISHED.

    Args:
        outbox: of the open run.
        run_id: of the open run.
    """

    def __init__(self, outbox: Outbox, run_id: str) -> None:
        super().__init__()
        self._outbox = outbox
        self._run_id = run_id
        self._gathered: deque[tuple[str, float, int, int]] = deque()
        self._sending = threading.Lock()
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        """Lightning's folder names come from here."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take metrics at a step, without waiting; Lightning's own `epoch` is left out, as no result."""
        now = int(time.time() * 1000)
        self._gathered.extend((k, float(value), now, step or 0) for k, value in metrics.items() if k != "epoch")
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._work, daemon=True)
            self._thread.start()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's record holds the whole config already."""

    def finalize(self, status: str) -> None:
        """Lightning has ended; the run goes on to the measurements."""
        self.flush()

    def flush(self) -> None:
        """Send what is left, and wait until all has arrived.

        Raises:
            mlflow.exceptions.MlflowException: the store has refused something.
        """
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._send()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._send()

    def _send(self) -> None:
        """Send what was gathered; the first error is kept for `flush`: an exception in a thread reaches nobody."""
        with self._sending:
            gathered = [self._gathered.popleft() for _ in range(len(self._gathered))]
            for start in range(0, len(gathered), METRICS_PER_CALL):
                try:
                    self._outbox.write(do="metrics", values=gathered[start : start + METRICS_PER_CALL])
                except Exception as error:
                    self._error = self._error or error
