"""A real Slurm of one node, with accounts, from Debian's packages; it runs as root and leaves nothing behind."""

import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from services import answers, find, free_port, quiet, running, until

PACKAGES = "slurm-wlm slurmdbd munge mariadb-server"
PROGRAMS = (
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "munged",
    "munge",
    "mariadbd",
    "mariadb",
    "mariadb-install-db",
    "sacctmgr",
)

SLURM = """\
ClusterName=trial
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=20
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounts}
AccountingStoragePass={folder}/munge/socket
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000
PartitionName=trial Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
SLURMDBD = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={accounts}
SlurmUser=root
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


@contextmanager
def slurm(folder: Path, cpus: int = 2) -> Iterator[dict[str, str]]:
    """The cluster for the length of a block; jobs that are left at its end are cancelled.

    Args:
        folder: a new one, that other users can pass through.
        cpus: jobs of one CPU at once.

    Yields:
        The environment in which Slurm's commands find it.
    """
    if os.getuid() != 0:
        raise SystemExit("skipped: Slurm's daemons are started as root")
    try:
        program = find(*PROGRAMS)
    except SystemExit as missing:
        raise SystemExit(f"{missing}; on Debian: apt-get install {PACKAGES}") from None
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    ports = {name: free_port() for name in ("controller", "node", "accounts", "database")}
    password = secrets.token_hex(16)
    given = {"folder": folder, "host": socket.gethostname(), "cpus": cpus, "password": password, **ports}
    (folder / "slurm.conf").write_text(SLURM.format(**given))
    accounts = folder / "slurmdbd.conf"
    accounts.touch(mode=0o600)
    accounts.write_text(SLURMDBD.format(**given))
    env = {"SLURM_CONF": str(folder / "slurm.conf")}
    everything = {**os.environ, **env}

    def says(*command: str) -> bool:
        return subprocess.run(command, env=everything, capture_output=True).returncode == 0

    with ExitStack() as stack:
        _munge(stack, folder / "munge", program)
        _mariadb(stack, folder / "mariadb", program, ports["database"], password)
        for daemon, port in (("slurmdbd", "accounts"), ("slurmctld", "controller"), ("slurmd", "node")):
            if daemon == "slurmctld":
                quiet([program["sacctmgr"], "-i", "add", "cluster", "trial"], env=everything)
            log = folder / f"{daemon}.log"
            up = [program[daemon], "-D"]
            stack.enter_context(running(up, log, lambda port=port: answers(ports[port]), env=everything))
        stack.callback(says, "scancel", "--user=root")
        until(lambda: "idle" in quiet(["sinfo", "-h", "-o", "%t"], env=everything), "an idle node")
        yield env
        says("scancel", "--user=root")
        until(lambda: not quiet(["squeue", "-h"], env=everything), "an empty queue")


def _munge(stack: ExitStack, folder: Path, program: dict[str, str]) -> None:
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    for path in (folder, key):
        shutil.chown(path, "munge", "munge")
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    command = [program["munged"], "--foreground", *(f"--{name}={folder / file}" for name, file in places.items())]
    asks = [program["munge"], "-n", f"--socket={folder / 'socket'}"]
    log = folder.with_suffix(".log")
    stack.enter_context(
        running(
            command, log, lambda: subprocess.run(asks, capture_output=True).returncode == 0, user="munge", group="munge"
        )
    )


def _mariadb(stack: ExitStack, folder: Path, program: dict[str, str], port: int, password: str) -> None:
    folder.mkdir()
    shutil.chown(folder, "mysql", "mysql")
    plain = ["--no-defaults", f"--datadir={folder / 'data'}", "--user=mysql"]
    quiet([program["mariadb-install-db"], *plain, "--skip-test-db"], cwd=folder)
    socket_file = folder / "socket"
    command = [program["mariadbd"], *plain, f"--socket={socket_file}", "--bind-address=127.0.0.1", f"--port={port}"]
    command += ["--innodb-lock-wait-timeout=900", "--innodb-buffer-pool-size=64M"]
    stack.enter_context(running(command, folder.with_suffix(".log"), socket_file.exists, cwd=folder))
    until(lambda: answers(port), "mariadbd")
    client = [program["mariadb"], "--no-defaults", f"--socket={socket_file}"]
    orders = ["create database slurm"]
    for user in ("slurm@localhost", "slurm@'127.0.0.1'"):
        orders += [f"create user {user} identified by '{password}'", f"grant all on slurm.* to {user}"]
    quiet([*client, "-e", "; ".join(orders)])
