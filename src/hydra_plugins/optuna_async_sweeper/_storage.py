"""Where a study is kept."""

from pathlib import Path
from typing import Any

import optuna
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

SQLITE = "sqlite:///"
JOURNAL = "journal://"
SQLITE_PATIENCE_S = 60.0  # to wait for another process that writes


def open_storage(storage: Any, folder: str | Path) -> BaseStorage:
    """Open a storage, and make it where it is new.

    Args:
        storage: an URL such as sqlite:///optuna.db or postgresql://…; journal:///path or a path that ends in .log for a
            journal; a config with `_target_`; None to keep the study in memory.
        folder: where a relative path begins.

    Raises:
        ConfigCompositionException: it cannot be opened.
    """
    if storage is None:
        return InMemoryStorage()
    try:
        if OmegaConf.is_config(storage):
            return instantiate(storage)
        return _from_text(str(storage), Path(folder))
    except Exception as error:  # drivers raise what they like
        cause = error.__cause__ or error
        line = " ".join(str(cause).split())
        raise ConfigCompositionException(
            f"hydra.sweeper.storage={storage}: {type(cause).__name__}: {line}; give an URL such as "
            "sqlite:///optuna.db, or a file that ends in .log"
        ) from None


def _from_text(text: str, folder: Path) -> BaseStorage:
    if text.startswith(JOURNAL) or text.endswith(".log"):
        path = folder / text.removeprefix(JOURNAL)
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(path)))
    if text.startswith(SQLITE) and text != f"{SQLITE}:memory:":
        path = folder / text.removeprefix(SQLITE)
        path.parent.mkdir(parents=True, exist_ok=True)
        return RDBStorage(f"{SQLITE}{path}", engine_kwargs={"connect_args": {"timeout": SQLITE_PATIENCE_S}})
    if "://" not in text:
        raise ValueError("neither an URL nor a file that ends in .log")
    return RDBStorage(text, engine_kwargs={"pool_pre_ping": True})  # a server may have dropped an idle connection


def study_id(study: optuna.Study) -> int:
    """The storage's number of a study."""
    return study._study_id
