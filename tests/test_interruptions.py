"""Ctrl-C ends a command in one line, whenever it comes, and leaves nothing that seems to run."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from samples import ETHANOL_FILES, TINY, installed_architectures, write_ethanol_files

from mlip_sweep.tracking.read import stored_runs, stored_sweeps

ARCHITECTURES = installed_architectures()
BIN = Path(sys.executable).parent

AT_IMPORT = """
import builtins, sys
plain = builtins.__import__
module = sys.argv[1]
def interrupted(name, *more, **named):
    if name.partition(".")[0] == module:
        raise KeyboardInterrupt
    return plain(name, *more, **named)
builtins.__import__ = interrupted
sys.argv = sys.argv[2:]
from mlip_sweep import cli
sys.exit({"mlip-sweep": cli.sweep, "mlip-compare": cli.compare, "mlip-measure": cli.measure}[sys.argv[0]]())
"""


@pytest.mark.parametrize("module", ["hydra", "torch"])
@pytest.mark.parametrize(
    "typed", [["mlip-sweep"], ["mlip-sweep", "--multirun", "seed=0,1"], ["mlip-compare"], ["mlip-measure", "0" * 32]]
)
def test_while_a_command_still_imports(typed, module, tmp_path):
    (tmp_path / "mlflow.db").touch()
    done = subprocess.run(
        [sys.executable, "-c", AT_IMPORT, module, *typed], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1].startswith(f"{typed[0]}: interrupted")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not ARCHITECTURES, reason="neither architecture is installed")
@pytest.mark.parametrize("launcher", ["basic", "cohort"])
def test_while_a_grid_trains(launcher, tmp_path):
    write_ethanol_files(tmp_path)
    tiny = [f"model.{name}={value}" for name, value in TINY[ARCHITECTURES[0]].items()]
    options = [f"hydra/launcher={launcher}", "hydra.sweep.dir=grid", "seed=0,1", "trainer.max_epochs=100000"]
    options += ["measurement=none", "objective=validation/loss", f"model={ARCHITECTURES[0]}", *tiny, *ETHANOL_FILES]
    command = subprocess.Popen(
        [BIN / "mlip-sweep", "--multirun", *options],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=(tmp_path / "stderr").open("w"),
        text=True,
    )
    for line in command.stdout:
        if "training on" in line:
            command.send_signal(signal.SIGINT)
            break
    command.stdout.read()
    assert command.wait() == 130
    said = (tmp_path / "stderr").read_text()
    assert said.splitlines()[-1] == ("mlip-sweep: interrupted; the same command with hydra.sweep.dir=grid goes on"), (
        said
    )
    assert "Traceback" not in said
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    (parent,) = stored_sweeps(uri)
    assert parent.status == "KILLED"
    children = stored_runs(uri, parent=parent.run_id)
    assert children and {run.status for run in children} == {"KILLED"}
