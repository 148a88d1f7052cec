"""The line on a terminal, read from a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
import toy_study

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals")


@pytest.mark.parametrize("columns", [80, 200])
def test_a_live_line_on_a_terminal_and_the_table_at_the_end(tmp_path, columns):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    command = [sys.executable, toy_study.__file__, "-m", "kind=choice(ok,raises)", "hydra/sweeper/sampler=grid"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, text=True) as sweep:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # a terminal without a writer
                break
            if not part:
                break
            seen += part
        out = sweep.stdout.read()
    os.close(ours)
    lines = seen.decode().split("\r")
    assert max(len(line.strip()) for line in lines if line.startswith("toy ")) <= columns
    live = [line for line in lines if line.startswith("toy 0/2") and "1 at work" in line]
    assert live, lines
    assert any(line.startswith("toy 2/2") and "1 failed, best 0.09 of trial" in line for line in lines), lines
    assert "toy: 1 done, 1 failed" in out
    assert "[HYDRA] trial" not in out  # which is for logs
