"""Opens the storage that a study is kept in."""

from pathlib import Path

import optuna
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from optuna_async.config import StudyAddress, without_passwords

SQLITE = "sqlite:///"
JOURNAL = "journal://"
SQLITE_PATIENCE_S = 60.0  # to wait for another process that writes


# The studies that sweeps of this process keep in memory, by their names; the newest where a name is used again.
_in_memory: dict[str, InMemoryStorage] = {}


def open_storage(study: StudyAddress) -> BaseStorage:
    """Open the storage of a study, and create it where it is new.

    Args:
        study: The storage is a URL such as sqlite:///optuna.db or postgresql://…; journal:///path or a path that ends
            in .log for a journal; a config with `_target_`; None to keep the study in the memory of this process, which
            begins a new one.

    Raises:
        ConfigCompositionException: The storage cannot be opened.
    """
    storage = study.storage
    if storage is None:
        _in_memory[study.name] = InMemoryStorage()
        return _in_memory[study.name]
    try:
        if OmegaConf.is_config(storage):
            return instantiate(storage)
        return _from_text(str(storage), Path(study.folder))
    except Exception as error:  # drivers raise what they like
        cause = error.__cause__ or error
        line = " ".join(str(cause).split())
        message = (
            f"hydra.sweeper.storage={storage}: {type(cause).__name__}: {line}; give an URL such as "
            "sqlite:///optuna.db, or a file that ends in .log"
        )
        raise ConfigCompositionException(without_passwords(message)) from None


def stored_trials(study: StudyAddress) -> list[FrozenTrial]:
    """The trials of a study as they are stored now; none, and no new storage, where there is no such study."""
    if study.storage is None:
        storage: BaseStorage | None = _in_memory.get(study.name)
    elif not OmegaConf.is_config(study.storage) and _is_absent(_file(str(study.storage), Path(study.folder))):
        storage = None
    else:
        storage = open_storage(study)
    if storage is None:
        return []
    try:
        return storage.get_all_trials(storage.get_study_id_from_name(study.name), deepcopy=False)
    except KeyError:  # there is no study of that name
        return []


def _is_absent(file: Path | None) -> bool:
    return file is not None and not file.exists()


def _file(text: str, folder: Path) -> Path | None:
    """The file that a storage is; None for a server."""
    if text.startswith(SQLITE):
        return folder / text.removeprefix(SQLITE) if text != f"{SQLITE}:memory:" else None
    if text.startswith(JOURNAL) or text.endswith(".log"):
        return folder / text.removeprefix(JOURNAL)
    return None


def _from_text(text: str, folder: Path) -> BaseStorage:
    file = _file(text, folder)
    if file is not None:
        if file.is_dir():
            raise IsADirectoryError("this is a folder")
        file.parent.mkdir(parents=True, exist_ok=True)
        if not text.startswith(SQLITE):
            return JournalStorage(JournalFileBackend(str(file)))
        return RDBStorage(f"{SQLITE}{file}", engine_kwargs={"connect_args": {"timeout": SQLITE_PATIENCE_S}})
    if "://" not in text:
        raise ValueError("neither an URL nor a file that ends in .log")
    return RDBStorage(text, engine_kwargs={"pool_pre_ping": True})  # a server may have dropped an idle connection


def study_id(study: optuna.Study) -> int:
    """The storage's number of a study."""
    return study._study_id
