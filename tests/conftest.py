"""For all tests."""

import logging
import signal
import sys
from pathlib import Path

import pytest

from mlip_sweep import cli


def pytest_configure() -> None:
    """Ctrl-C works, also for the processes that tests start: a shell's `&` would have it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list) -> None:
    """Files with slow tests come first, so that no worker is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def typed(monkeypatch, capfd):
    """`mlip-sweep` in this process, whose imports are done: status, output and errors."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, folder: Path) -> tuple[object, str, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mlip-sweep", *arguments])
        status: object = 0
        try:
            status = cli.sweep()
        except SystemExit as ended:  # as the interpreter does: a line goes to the errors, and the status is 1
            status = ended.code
            if isinstance(status, str):
                print(status, file=sys.stderr)
                status = 1
        return status, *capfd.readouterr()

    yield run
    for handler in set(root.handlers) - set(handlers):  # Hydra's own
        handler.close()
    root.handlers[:], root.level = handlers, level
