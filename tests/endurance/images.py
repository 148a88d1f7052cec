"""The images of docker/, built and run: a search of eight trials by two workers, on a server with accounts.

sudo .venv/bin/python tests/endurance/images.py [--trials 8] [--torch cpu] [--keep]

No engine is needed: Debian's buildah and mmdebstrap build and run. Services get their commands, environment and health
check from docker/compose.yaml; PostgreSQL comes from Debian's packages, and moto is the object store. Ports 5000 and
8333 of loopback must be free. Tens of minutes, and many GB of disk.
"""

import argparse
import os
import re
import secrets
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from books import Counts, report
from containers import ROOT, Container, Images
from rich.console import Console
from services import BIN, answers, find, postgres, quiet, running, until, workplace
from workers import STUDY, counted

DOCKER = ROOT / "docker"
SERVER, WORKER = "mlip-sweep-mlflow:trial", "mlip-sweep:trial"
MLFLOW_PORT, OBJECTS_PORT = 5000, 8333
WORKERS = 2
OWN = re.compile(r"(/sweep|/home/sweep|/proc|/dev)(/|$)")  # what the user of the images may write to
SMALL = [  # what makes the search of compose.yaml one of minutes; both architectures stay in it
    f"hydra.sweeper.study_name={STUDY}",
    "hydra.sweeper.direction=minimize",
    "objective=validation/loss",
    "averaging=choice(none,ema)",
    "dataset.n_train=10",
    "trainer=cpu",
    "trainer.max_epochs=4",  # the last of which is that of a cycle of weights
    "measurement=none",
]


def main() -> int:
    """Build, run, count; status 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--torch", help="its build (default: what pip's folders of wheels have, or else cpu)")
    parser.add_argument("--keep", action="store_true", help="keep the folder, with images")
    chosen = parser.parse_args()
    find("buildah", "mmdebstrap", "initdb", "postgres", "psql", "pg_dumpall")
    if os.getuid() != 0:
        raise SystemExit("skipped: buildah and mmdebstrap are run as root here")
    for port in (MLFLOW_PORT, OBJECTS_PORT):
        if answers(port):
            raise SystemExit(f"skipped: port {port} of this machine is in use")
    folder = workplace("images")
    images = Images(folder / "images")
    settings = filled_in(chosen.trials)
    good = report("images", built(images, chosen.torch))
    good = report("user", users(images)) and good
    good = searched(folder, images, settings, chosen.trials) and good
    if chosen.keep or not good:
        Console().print(f"kept: {folder}")
    else:
        images.remove()
        shutil.rmtree(folder)
    return 0 if good else 1


def filled_in(trials: int) -> dict[str, str]:
    """The lines of docker/.env.example, with a password wherever one is asked for."""
    lines = (DOCKER / ".env.example").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: value or secrets.token_hex(24) for name, value in settings.items()} | {"TRIALS": str(trials)}


def built(images: Images, torch: str | None) -> Counts:
    """Build both images; how long it took and how large they are."""
    counts: Counts = {}
    begin = time.monotonic()
    base = images.make_bases()
    counts["base, made: seconds, size"] = (f"{time.monotonic() - begin:.0f}, {images.size(base)}", None)
    if torch is None:
        torch = "" if images.has_wheel("torch") else "cpu"
    for target, name, arguments in (("mlflow", SERVER, []), ("worker", WORKER, ["--build-arg", f"TORCH={torch}"])):
        Console().print(f"building {target} …")
        begin = time.monotonic()
        images.build(target, name, *arguments)
        counts[f"{target}, built: seconds, size"] = (f"{time.monotonic() - begin:.0f}, {images.size(name)}", None)
    return counts


def users(images: Images) -> Counts:
    """Who commands are in both images, and what they can write to."""
    counts: Counts = {}
    for target, name in (("mlflow", SERVER), ("worker", WORKER)):
        with images.container(name) as container:
            counts[f"{target}: number of its user"] = (container.run(["id", "-u"]), "1000")
            # Folders of everyone, such as /tmp, have the bit of 1000.
            search = "find / -xdev -writable ! -type l ! -type c ! -perm -1000 2>/dev/null || true"
            open_to_it = [path for path in container.run(["sh", "-c", search]).splitlines() if not OWN.match(path)]
            counts[f"{target}: what it can write to beside its folders"] = (open_to_it, [])
    return counts


def searched(folder: Path, images: Images, settings: Mapping[str, str], trials: int) -> bool:
    """A search through server and workers; whether study, runs, health and secrets are as they should be."""
    logs, sweeps, hosts = folder / "logs", folder / "sweeps", folder / "hosts"
    logs.mkdir()
    sweeps.mkdir()
    shutil.chown(sweeps, 1000, 1000)  # as a named volume takes it from the image
    hosts.write_text("127.0.0.1 localhost database objects mlflow\n")
    services = composed(settings)
    with ExitStack() as stack:
        address, administrator = stack.enter_context(postgres(folder / "postgres", []))
        port = address.rpartition(":")[2]
        where = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "sweep", "PGDATABASE": "postgres"}
        administrator = {**os.environ, **settings, **administrator, **where}
        quiet([str(DOCKER / "databases.sh")], env=administrator | {"POSTGRES_USER": "sweep"})
        stack.enter_context(object_store(folder))
        server, worker = (stack.enter_context(images.container(name)) for name in (SERVER, WORKER))

        def service(name: str, container: Container, *more: str, image: str = SERVER):
            said = services[name]
            command = [*(images.config(image).get("Entrypoint") or []), *said["command"], *more]
            env = {key: str(value) for key, value in said["environment"].items()} | {"PGPORT": port}
            number = len(list(logs.glob(f"{name}_*")))
            volumes = {hosts: "/etc/hosts:ro", sweeps: "/sweep"}
            return stack.enter_context(container.running(command, env, volumes, logs / f"{name}_{number}.log"))

        def healthy() -> bool:
            test = services["mlflow"]["healthcheck"]["test"][1:]
            with server.running(test, {}, {}) as process:
                return process.wait() == 0

        counts: Counts = {"server healthy before it is there": (healthy(), False)}
        # Twice each: a stack that is started again runs them again.
        counts["bucket, made and found: status"] = ([service("bucket", server).wait() for _ in range(2)], [0, 0])
        begin = time.monotonic()
        mlflow = service("mlflow", server)
        until(lambda: mlflow.poll() is not None or healthy(), "the server's health")
        counts["server healthy"] = (healthy(), True)
        counts["server healthy after: seconds"] = (round(time.monotonic() - begin), None)
        counts["account, made and found: status"] = ([service("account", server).wait() for _ in range(2)], [0, 0])
        begin = time.monotonic()
        started = [service("worker", worker, *SMALL, image=WORKER) for _ in range(WORKERS)]
        counts["workers: status"] = ([process.wait() for process in started], [0] * WORKERS)
        counts["workers: seconds"] = (round(time.monotonic() - begin), None)
        counts["objects in the bucket"] = (objects() > trials, True)
        good = report("services", counts)
        os.environ |= {key: str(value) for key, value in services["worker"]["environment"].items()} | where
        study = f"postgresql+psycopg://optuna@127.0.0.1:{port}/optuna"
        title = f"{WORKERS} workers of the image: {trials} trials"
        good = report(title, counted(study, f"http://127.0.0.1:{MLFLOW_PORT}", trials)) and good
        databases = quiet([find("pg_dumpall")["pg_dumpall"]], env=administrator)
    texts = {"what the server's image tells": images.inspected(SERVER)}
    texts |= {"what the worker's image tells": images.inspected(WORKER), "the databases": databases}
    texts |= {"logs": contents(logs), "the sweep's folder": contents(sweeps)}
    return report("secrets", secrets_in(texts, settings)) and good


def composed(settings: Mapping[str, str]) -> dict[str, Any]:
    """The services of docker/compose.yaml, with its variables filled in."""
    text = re.sub(r"\$\{(\w+)[^}]*\}", lambda found: settings[found[1]], (DOCKER / "compose.yaml").read_text())
    return dict(yaml.safe_load(text)["services"])


@contextmanager
def object_store(folder: Path) -> Iterator[None]:
    """moto's S3 on the port of the object store, from a virtual environment of its own; it takes every key."""
    venv, uv = folder / "moto", str(BIN / "uv")
    quiet([uv, "venv", "--python", sys.executable, str(venv)])
    install = [uv, "pip", "install", "--config-file", str(folder / "images" / "uv.toml")]
    quiet([*install, "--python", str(venv / "bin" / "python"), "moto[server]>=5,<6"])
    command = [str(venv / "bin" / "moto_server"), "--host", "127.0.0.1", "--port", str(OBJECTS_PORT)]
    with running(command, folder / "objects.log", lambda: answers(OBJECTS_PORT)):
        yield


def objects() -> int:
    """How many objects the bucket holds, up to a thousand."""
    with urllib.request.urlopen(f"http://127.0.0.1:{OBJECTS_PORT}/mlflow?list-type=2") as page:
        return page.read().count(b"<Key>")


def contents(folder: Path) -> str:
    """All that is in the files of a folder."""
    return "".join(path.read_bytes().decode(errors="replace") for path in sorted(folder.rglob("*")) if path.is_file())


def secrets_in(texts: Mapping[str, str], settings: Mapping[str, str]) -> Counts:
    """Which passwords and keys stand where none may."""
    hidden = {name: value for name, value in settings.items() if re.search("PASSWORD|SECRET|KEY", name)}
    return {
        f"in {place} ({len(text)} characters)": ([name for name, value in hidden.items() if value in text], [])
        for place, text in texts.items()
    }


if __name__ == "__main__":
    sys.exit(main())
