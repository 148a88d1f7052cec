"""Servers for trials that take minutes: each is started in a folder of its own, and ended by its process id."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE_S = 300.0
BIN = Path(sys.executable).parent  # where mlip-sweep and mlflow are


def workplace(name: str) -> Path:
    """A new folder that other users, under whom servers run, can pass through."""
    # From here on SIGTERM unwinds as Ctrl-C does, so that it ends the servers, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix=f"{name}_"))
    folder.chmod(0o755)
    return folder


def find(*programs: str) -> dict[str, str]:
    """Paths of programs; ends the trial, which has nothing to try, where one is missing."""
    folders = [os.environ["PATH"], "/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))[::-1])]
    found = {name: shutil.which(name, path=os.pathsep.join(folders)) for name in programs}
    missing = sorted(name for name, path in found.items() if path is None)
    if missing:
        raise SystemExit(f"skipped: {', '.join(missing)} not installed")
    return {name: str(path) for name, path in found.items()}


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(ready: Callable[[], bool], what: str, patience_s: float = PATIENCE_S, tick_s: float = 0.5) -> None:
    """Wait for something; TimeoutError where it does not come."""
    deadline = time.monotonic() + patience_s
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {patience_s:g} s")
        time.sleep(tick_s)


@contextmanager
def running(
    command: Sequence[str], log: Path, ready: Callable[[], bool], end: int = signal.SIGTERM, **options: Any
) -> Iterator[subprocess.Popen]:
    """A server for the length of a block.

    Args:
        command: must stay in the foreground.
        log: takes what it says.
        ready: whether it answers.
        end: the signal that ends it.
        options: of `subprocess.Popen`.
    """
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said, **options) as process:
        try:
            until(lambda: process.poll() is not None or ready(), command[0])
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with status {process.returncode}:\n{log.read_text()}")
            yield process
        finally:
            process.send_signal(end)
            try:
                process.wait(30.0)
            except subprocess.TimeoutExpired:
                process.kill()


def quiet(command: Sequence[str], **options: Any) -> str:
    """Run a command to its end; what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextmanager
def postgres(folder: Path, databases: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """A PostgreSQL cluster of its own on loopback, with empty databases.

    Yields:
        The address `USER@HOST:PORT`, and the environment in which clients find the password.
    """
    programs = find("initdb", "postgres", "pg_isready", "createdb")
    folder.mkdir()
    port, password, passwords = str(free_port()), secrets.token_hex(16), folder / "pgpass"
    passwords.touch(mode=0o600)
    passwords.write_text(f"127.0.0.1:{port}:*:sweep:{password}\n")
    (folder / "password").write_text(password)
    owner: dict[str, Any] = {}
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        owner = {"user": "postgres", "group": "postgres"}
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    data = str(folder / "data")
    quiet(
        [programs["initdb"], "-D", data, "-U", "sweep", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}"],
        cwd=folder,
        **owner,
    )
    server = [programs["postgres"], "-D", data, "-h", "127.0.0.1", "-p", port, "-k", str(folder), "-c", "fsync=off"]
    where = ["-h", "127.0.0.1", "-p", port, "-U", "sweep"]
    asks = [programs["pg_isready"], "-q", *where]
    env = {"PGPASSFILE": str(passwords)}
    log = folder.with_suffix(".log")
    # SIGINT: at once, without waiting for clients to leave.
    with running(server, log, lambda: subprocess.run(asks).returncode == 0, signal.SIGINT, cwd=folder, **owner):
        for database in databases:
            quiet([programs["createdb"], *where, database], env=os.environ | env)
        yield f"sweep@127.0.0.1:{port}", env


@contextmanager
def mlflow_server(folder: Path, store: str, env: Mapping[str, str]) -> Iterator[str]:
    """An MLflow server on loopback; yields its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [str(BIN / "mlflow"), "server", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", (folder / "artifacts").as_uri(), "--workers", "1"]
    environment = {**os.environ, **env, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def healthy() -> bool:
        try:
            return urllib.request.urlopen(f"{address}/health", timeout=30).status == 200
        except OSError:
            return False

    with running(command, folder / "mlflow.log", healthy, cwd=folder, env=environment):
        yield address


def answers(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
