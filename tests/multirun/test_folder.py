"""Processes that work at one multirun know of one another."""

import json
import os
import subprocess
import sys
import time

from mlip_sweep.multirun.folder import AT_WORK, SweepFolder
from optuna_async import liveness

OTHER = """
import sys, time
from pathlib import Path
from mlip_sweep.multirun.folder import SweepFolder
sweep = SweepFolder(Path(sys.argv[1]))
print(sweep.join(lambda known: known or "made by the other", ["a"]), flush=True)
sys.stdin.read()
print(sweep.leave())
"""


def test_one_parent_and_the_last_one_closes_it(tmp_path):
    sweep = SweepFolder(tmp_path)
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline().strip() == "made by the other"
    assert sweep.join(lambda known: known or "made here", ["a"]) == "made by the other"
    assert sweep.leave() is False  # the other one is at work
    sweep.join(lambda known: known or "made here", ["a"])
    other.kill()
    other.wait()
    assert sweep.leave() is True  # it was killed, and its sign is swept away
    assert list((tmp_path / AT_WORK).iterdir()) == []
    assert sweep.read() == {"run_id": "made by the other", "constants": ["a"]}


def test_another_host_counts_as_gone_after_a_long_silence(tmp_path, monkeypatch):
    sweep = SweepFolder(tmp_path)
    sweep.join(lambda known: "parent", [])
    sign = tmp_path / AT_WORK / "elsewhere"
    sign.write_text(json.dumps({"system.host": "elsewhere", "system.process": "1 since 2.00"}))
    assert sweep.leave() is False
    sweep.join(lambda known: "parent", [])
    long_ago = time.time() - liveness.SILENCE_S - 60
    os.utime(sign, (long_ago, long_ago))
    assert sweep.leave() is True
    assert not sign.exists()


def test_a_sign_that_another_process_has_removed_comes_back_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(liveness.Heartbeat.__init__, "__defaults__", (0.01,))
    sweep = SweepFolder(tmp_path)
    sweep.join(lambda known: "parent", [])
    (sign,) = (tmp_path / AT_WORK).iterdir()
    content = sign.read_text()
    sign.unlink()
    patience = time.monotonic() + 60
    while not sign.exists() and time.monotonic() < patience:
        time.sleep(0.01)
    assert sign.read_text() == content
    assert sweep.leave() is True
    assert list((tmp_path / AT_WORK).iterdir()) == []
