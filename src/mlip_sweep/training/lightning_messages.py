"""Which of Lightning's messages reach a user: its tips and its notes on devices are not for this program's users."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = (
    "pytorch_lightning",
    "lightning.pytorch",
    "pytorch_lightning.utilities.rank_zero",
    "lightning.pytorch.utilities.rank_zero",
)
EXPECTED = (
    r".*does not have many workers.*",  # graphs are built once and stay in memory
    r".*exists and is not empty.*",  # a resumed training finds its checkpoint there
    r".*`srun` command is available.*",  # a training is one process, on a cluster too
    r".*The dirpath has changed from.*",  # a trial goes on from the checkpoint of an interrupted one
    r".*treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
)


@contextmanager
def fewer_messages() -> Iterator[None]:
    """Let only warnings through, and none that this program causes on purpose; afterwards all is as before."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for pattern in EXPECTED:
            warnings.filterwarnings("ignore", pattern)
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
