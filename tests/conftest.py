"""For all tests."""

import signal


def pytest_configure() -> None:
    """Ctrl-C works, also for the processes that tests start: a shell's `&` would have it ignored."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
