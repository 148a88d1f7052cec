"""What the shell calls: `mlip-sweep`, `mlip-compare`, `mlip-measure` and `mlip-export`.

Nothing is imported before a command runs, so that Ctrl-C is answered from its first moment on.
"""

import os
import sys
from collections.abc import Callable, Sequence

INTERRUPTED = 130  # exit status of a command that Ctrl-C has ended, as shells have it

# Of this process and those that it starts: by default MLflow tries for four minutes to reach a server that has gone.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")


def sweep() -> int:
    """One run, or many: see `mlip_sweep.commands.sweep`."""

    def command() -> int:
        from mlip_sweep.commands import sweep

        return sweep()

    return _answered("mlip-sweep", command)


def compare(argv: Sequence[str] | None = None) -> int:
    """Put recorded runs side by side: see `mlip_sweep.commands.compare`."""

    def command() -> int:
        from mlip_sweep.commands import compare

        return compare(argv)

    return _answered("mlip-compare", command)


def measure(argv: Sequence[str] | None = None) -> int:
    """Measure a finished run again: see `mlip_sweep.commands.measure`."""

    def command() -> int:
        from mlip_sweep.commands import measure

        return measure(argv)

    return _answered("mlip-measure", command)


def export(argv: Sequence[str] | None = None) -> int:
    """Write the potential of a run for its library's programs: see `mlip_sweep.commands.export`."""

    def command() -> int:
        from mlip_sweep.commands import export

        return export(argv)

    return _answered("mlip-export", command)


def _answered(name: str, command: Callable[[], int]) -> int:
    """Run the command of a name; Ctrl-C ends it in one line."""
    try:
        return command()
    except KeyboardInterrupt as interrupt:
        print(f"{name}: interrupted{f'; {interrupt}' if str(interrupt) else ''}", file=sys.stderr)
        return INTERRUPTED
