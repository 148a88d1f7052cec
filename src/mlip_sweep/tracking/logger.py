"""A Lightning logger that writes metrics into an open run, in the background."""

import time
from argparse import Namespace
from typing import Any

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient
from mlflow.utils.async_logging.run_operations import RunOperations
from pytorch_lightning.loggers.logger import Logger

UNCONFIRMED_CALLS = 1000  # how many calls may be on their way before a log waits for them


class MetricsLogger(Logger):
    """Sends what Lightning logs to a run that `mlip_sweep.tracking.run.record` has opened, and closes.

    Lightning's MLFlowLogger would end the run itself, cut parameters to 250 characters and resume as FINISHED.

    Args:
        uri: absolute URI of a prepared store.
        run_id: the open run.
    """

    def __init__(self, uri: str, run_id: str) -> None:
        super().__init__()
        self._client = MlflowClient(tracking_uri=uri)
        self._run_id = run_id
        self._pending: list[RunOperations] = []

    @property
    def name(self) -> str:
        """Lightning's folder names come from here."""
        return "mlflow"

    @property
    def version(self) -> str:
        """The run's id."""
        return self._run_id

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Send metrics at a step, without waiting; Lightning's own `epoch` is left out, as no result."""
        now = int(time.time() * 1000)
        values = [Metric(key, float(value), now, step or 0) for key, value in metrics.items() if key != "epoch"]
        if values:
            sent = self._client.log_batch(self._run_id, metrics=values, synchronous=False)
            if sent is not None:
                self._pending.append(sent)
        if len(self._pending) >= UNCONFIRMED_CALLS:
            self.flush()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's record holds the whole config already."""

    def finalize(self, status: str) -> None:
        """Lightning has ended; the run goes on to the measurements."""
        self.flush()

    def flush(self) -> None:
        """Wait until all has arrived.

        Raises:
            mlflow.exceptions.MlflowException: something could not be stored.
        """
        pending, self._pending = self._pending, []
        for sent in pending:
            sent.wait()
