"""Whether a process is at work."""

import subprocess
import sys
import time
from dataclasses import replace

import pytest

from optuna_async import liveness
from optuna_async.liveness import Heartbeat, ProcessIdentity


def test_an_identity_is_the_same_after_it_was_written_and_read():
    here = liveness.identity()
    read = ProcessIdentity.parse(str(here))
    assert liveness.is_this_process(read)
    assert not liveness.has_ended(read)
    assert str(ProcessIdentity("node 7", 12, 3.0)) == "node 7 12/3.00"
    assert ProcessIdentity.parse("node 7 12/3.00") == ProcessIdentity("node 7", 12, 3.0)
    with pytest.raises(ValueError):
        ProcessIdentity.parse("nobody")


def test_a_process_has_ended_once_it_is_killed():
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    process = liveness.identity(child.pid)
    assert not liveness.has_ended(process, if_elsewhere=True)
    child.kill()
    child.wait()
    assert liveness.has_ended(process)


def test_a_number_that_is_used_again_is_another_process():
    earlier = replace(liveness.identity(), started=1.0)
    assert liveness.has_ended(earlier)
    assert not liveness.is_this_process(earlier)


@pytest.mark.parametrize("answer", [True, False])
def test_a_process_of_another_host_cannot_be_asked(answer):
    elsewhere = replace(liveness.identity(), host="elsewhere")
    assert liveness.has_ended(elsewhere, if_elsewhere=answer) is answer
    assert not liveness.is_this_process(elsewhere)


def test_a_heart_beats_when_it_is_due():
    signs = []
    heartbeat = Heartbeat(lambda: signs.append(time.monotonic()), every_s=0.05)
    for _ in range(3):
        heartbeat.beat()
    assert len(signs) == 1


def test_a_heart_beats_in_the_background_until_it_is_stopped_whatever_the_file_system_does():
    signs = []

    def sign():
        signs.append(time.monotonic())
        if len(signs) == 1:
            raise OSError("stale file handle")

    heartbeat = Heartbeat(sign, every_s=0.01)
    heartbeat.start()
    patience = time.monotonic() + 60
    while len(signs) < 3 and time.monotonic() < patience:
        time.sleep(0.01)
    heartbeat.stop()
    count = len(signs)
    assert count >= 3
    time.sleep(0.05)
    assert len(signs) == count
