"""What a run ran on: versions of packages, the code's commit, the machine."""

import getpass
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

PACKAGES = (
    "mlip_sweep",
    "torch",
    "e3nn",
    "nequip",
    "mace-torch",
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
    """Host, processors, memory, accelerator, and the process, by which `process_gone` knows a run that was killed."""
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


def process_tags(number: int | None = None) -> dict[str, str]:
    """Tags that name a process, this one by default, beyond doubt: host, number, and the time of its start."""
    process = psutil.Process(number)
    return {
        "system.host": platform.node(),
        "system.process": f"{process.pid} since {process.create_time():.2f}",
    }


def process_gone(tags: dict[str, str], *, over: bool) -> bool:
    """Whether the process that wrote `process_tags` has ended.

    Args:
        tags: of a run.
        over: the answer for a process of another host, which cannot be asked, and for this process itself.
    """
    if tags.get("system.host") != platform.node():
        return over
    number, _, started = tags.get("system.process", "").partition(" since ")
    try:
        process = psutil.Process(int(number))
        if process.pid == os.getpid():
            return over
        # Numbers of processes are used again: another start time is another process.
        return abs(process.create_time() - float(started)) > 0.1
    except (psutil.NoSuchProcess, ValueError):
        return True


def _git(folder: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
