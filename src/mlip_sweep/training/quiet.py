"""Lightning says less while it trains here: its tips and its notes on devices are not for this program's users."""

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
KNOWN = (
    r".*does not have many workers.*",  # graphs are built once and stay in memory
    r".*exists and is not empty.*",  # a resumed training finds its checkpoint there
    r".*`srun` command is available.*",  # a training is one process, on a cluster too
    r".*The dirpath has changed from.*",  # a trial goes on from the checkpoint of an interrupted one
    r".*treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
)


@contextmanager
def quiet() -> Iterator[None]:
    """Only warnings, less those that are meant; levels and filters are put back."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for pattern in KNOWN:
            warnings.filterwarnings("ignore", pattern)
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
