"""Images built and run without an engine, by buildah as root, from a Debian that mmdebstrap makes.

Storage, caches and running containers lie in one folder. The settings by which pip finds packages on this machine are
taken from `pip config`, and reach a build as files that are mounted, so that nothing of them stays in an image.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from services import BIN, find, quiet

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


class Images:
    """Images of one folder.

    Args:
        folder: takes everything.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = find("buildah", "mmdebstrap")
        self.folder = folder
        self._temporary = folder / "tmp"  # of buildah, whose caches of builds lie there
        self._temporary.mkdir(parents=True, exist_ok=True)
        storage = ["--root", str(folder / "storage"), "--runroot", str(folder / "running")]
        self._buildah = [self._programs["buildah"], *storage]
        self._mounted, self._wheels = index_settings(folder)
        self._env = {**os.environ, "TMPDIR": str(self._temporary), "BUILDAH_ISOLATION": "chroot"}

    def buildah(self, *arguments: str) -> str:
        """What a command of buildah prints."""
        return quiet([*self._buildah, *arguments], env=self._env).strip()

    def make_bases(self) -> str:
        """The images that the Dockerfile starts from, of the same names; the name of the one with Python."""
        text = DOCKERFILE.read_text()
        uv, python = re.findall(r"^FROM (\S+:\S+) AS (?:uv|base)$", text, re.MULTILINE)
        tag = re.findall(r"^ARG PYTHON=(\S+)$", text, re.MULTILINE)[0]
        python = "docker.io/library/" + python.replace("${PYTHON}", tag)
        system = self.folder / "system.tar"
        packages = "--include=python3,ca-certificates"
        make = [self._programs["mmdebstrap"], "--variant=minbase", packages, tag.rpartition("-")[2], str(system)]
        quiet(make, env=self._env)
        self._image_of(python, "add", str(system), "/")
        system.unlink()
        self._image_of(uv, "copy", str(BIN / "uv"), "/uv")
        return python

    def _image_of(self, name: str, *filling: str) -> None:
        """An image with one layer, which a command of buildah fills."""
        container = self.buildah("from", "scratch")
        command, *paths = filling
        self.buildah(command, "--quiet", container, *paths)
        self.buildah("commit", "--quiet", container, name)
        self.buildah("rm", container)

    def build(self, target: str, name: str, *arguments: str) -> None:
        """Build a target of the Dockerfile, whose bases are there."""
        options = ["--file", str(DOCKERFILE), "--target", target, "--tag", name, "--network", "host", "--pull-never"]
        self.buildah("bud", *options, *as_volumes(self._mounted), *arguments, str(ROOT))

    def has_wheel(self, package: str) -> bool:
        """Whether pip was told of a folder with a wheel of a package."""
        return any(any(folder.glob(f"{package}-*.whl")) for folder in self._wheels)

    def remove(self) -> None:
        """Remove every image, and the storage with it."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")
        mounted = [disk.mountpoint for disk in psutil.disk_partitions(all=True)]
        for place in sorted(mounted, reverse=True):  # buildah leaves its storage mounted on itself
            if Path(place).is_relative_to(self.folder):
                quiet(["umount", place])
        shutil.rmtree(self.folder)

    def size(self, name: str) -> str:
        """What buildah tells of an image's size, with its base."""
        return str(json.loads(self.buildah("images", "--json", name))[0]["size"])

    def config(self, name: str) -> dict[str, Any]:
        """What an image says of how it is run."""
        return dict(json.loads(self.buildah("inspect", "--type", "image", name))["OCIv1"]["config"])

    def inspected(self, name: str) -> str:
        """All that an image tells of itself, with its history."""
        return self.buildah("inspect", "--type", "image", name)

    @contextmanager
    def container(self, image: str) -> Iterator["Container"]:
        """A system of an image, for the length of a block."""
        name = self.buildah("from", "--pull-never", image)
        try:
            yield Container(
                [*self._buildah, "run", "--network", "host", "--no-hosts", "--cap-drop", "ALL"], name, self._env
            )
        finally:
            self.buildah("rm", name)


class Container:
    """A system in which commands run as its image's user, on the network of this machine and without any capability."""

    def __init__(self, run: Sequence[str], name: str, env: Mapping[str, str]) -> None:
        self._run = list(run)
        self._name = name
        self._env = dict(env)

    @contextmanager
    def running(
        self, command: Sequence[str], env: Mapping[str, str], volumes: Mapping[Path, str], log: Path | None = None
    ) -> Iterator[subprocess.Popen]:
        """A command for the length of a block; what it says goes to a log."""
        options = as_volumes(volumes)
        for key, value in env.items():
            options += ["--env", f"{key}={value}"]
        whole = [*self._run, *options, self._name, "--", *command]
        where = log or Path(os.devnull)
        with where.open("w") as said, subprocess.Popen(whole, env=self._env, stdout=said, stderr=said) as process:
            try:
                yield process
            finally:
                end(process)

    def run(self, command: Sequence[str]) -> str:
        """What a command prints, run to its end."""
        return quiet([*self._run, self._name, "--", *command], env=self._env).strip()


def end(process: subprocess.Popen) -> None:
    """End a command of buildah and all that it has started: it hands no signal on itself."""
    if process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.terminate()
        for child in psutil.wait_procs(children, timeout=60.0)[1]:
            child.kill()
        process.terminate()


def as_volumes(volumes: Mapping[Path, str]) -> list[str]:
    """Options that mount files and folders, path -> place."""
    return [option for path, place in volumes.items() for option in ("--volume", f"{path}:{place}")]


def index_settings(folder: Path) -> tuple[dict[Path, str], list[Path]]:
    """What a build mounts so that uv looks for packages where pip of this machine does, and pip's folders of wheels."""
    listed = quiet([sys.executable, "-m", "pip", "config", "list"])
    pip: dict[str, str] = {}
    for name, value in re.findall(r"^\S+\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        pip.setdefault(name, value)  # the environment comes first, and counts
    found = {name: pip[name].split() for name in ("extra-index-url", "find-links") if name in pip}
    lines = ["system-certs = true", 'index-strategy = "unsafe-best-match"']  # pip's own
    lines += [f"index-url = {json.dumps(pip['index-url'])}"] if "index-url" in pip else []
    lines += [f"{name} = {json.dumps(places)}" for name, places in found.items()]
    settings = folder / "uv.toml"
    settings.write_text("\n".join(lines) + "\n")
    mounted = {settings: "/etc/uv/uv.toml:ro"}
    wheels = [Path(place.removeprefix("file://")) for place in found.get("find-links", [])]
    # The pages of an index on disk name files that lie beside its folder of pages.
    indices = [Path(place.removeprefix("file://")).parent for place in found.get("extra-index-url", [])]
    mounted |= {path: f"{path}:ro" for path in [*wheels, *indices] if path.is_absolute()}
    if "cert" in pip:
        mounted[Path(pip["cert"])] = "/etc/ssl/certs/ca-certificates.crt:ro"
    return mounted, wheels
