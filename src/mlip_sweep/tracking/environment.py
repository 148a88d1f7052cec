"""What a run ran on: versions of packages, the code's commit, the machine."""

import getpass
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from optuna_async import liveness
from optuna_async.liveness import ProcessIdentity

HOST = "system.host"  # tags of a run: the process that it belongs to
PROCESS = "system.process"
SINCE = " since "  # between number and start time

PACKAGES = (
    "mlip_sweep",
    "torch",
    "e3nn",
    "nequip",
    "nequip-allegro",
    "mace-torch",
    "graph-pes",
    "ase",
    "pytorch-lightning",
    "mlflow",
    "optuna",
    "hydra-core",
)


def recorded() -> dict[str, str]:
    """What every run and every sweep records of its origin."""
    return {**origin(), **commit(), **versions()}


def versions() -> dict[str, str]:
    """`version.<package>` to its installed version, "not installed" where it is absent."""
    found = {}
    for package in PACKAGES:
        try:
            found[f"version.{package}"] = version(package)
        except PackageNotFoundError:
            found[f"version.{package}"] = "not installed"
    return found


def commit() -> dict[str, str]:
    """The commit of this package's code or, where that is not under git, of the current folder; or nothing."""
    here = Path(__file__)
    # A wheel inside a virtual environment inside somebody's repository is no part of that repository.
    folder = here.parent if _git(here.parent, "ls-files", "--error-unmatch", here.name) else Path.cwd()
    head = _git(folder, "rev-parse", "HEAD")
    if not head:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": head, "git.uncommitted_changes": "yes" if changed else "no"}


def origin() -> dict[str, str]:
    """Who ran what, as MLflow's own pages show it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have a number only
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "mlip-sweep", "mlflow.source.type": "LOCAL"}


def machine() -> dict[str, str]:
    """Processors, memory, accelerator, and the process, by which `process_has_ended` knows a run that was killed."""
    import torch

    process = psutil.Process()
    processors = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    return {
        "system.machine": f"{platform.system()} {platform.machine()}, {processors} processors, {memory:.0f} GiB, "
        f"Python {platform.python_version()}",
        "system.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        **process_tags(),
    }


def process_tags(pid: int | None = None) -> dict[str, str]:
    """Tags that name a process of this host, by default this one, beyond doubt."""
    process = liveness.identity(pid)
    return {HOST: process.host, PROCESS: f"{process.pid}{SINCE}{process.started:.2f}"}


def process_has_ended(tags: Mapping[str, str], *, if_unknown: bool) -> bool:
    """Whether the process that wrote `process_tags` has ended.

    Args:
        tags: Tags of a run.
        if_unknown: The answer where the tags cannot tell: for a process of another host, which cannot be asked, and for
            this process, which may have left the run behind.
    """
    pid, _, started = tags.get(PROCESS, "").partition(SINCE)
    try:
        process = ProcessIdentity(tags.get(HOST, ""), int(pid), float(started))
    except ValueError:  # a run without such tags
        return if_unknown
    if liveness.is_this_process(process):
        return if_unknown
    return liveness.has_ended(process, if_elsewhere=if_unknown)


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
