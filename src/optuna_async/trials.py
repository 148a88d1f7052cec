"""What became of the trials of a study, as data for the program that is swept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from optuna_async.config import StudyAddress

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Attributes of a stored trial.
REASON = "reason"
RETRY_OF = "retry_of"


class UnreadableStudyError(RuntimeError):
    """The storage of a study cannot be read now."""


@dataclass(frozen=True)
class TrialSummary:
    """What became of one trial.

    Attributes:
        number: Number of the trial in its study, which is the number of its job.
        state: Optuna's word for its state, in lower case: complete, pruned, fail, running or waiting.
        reason: Why it failed or was pruned, in one line; None where it did neither.
        retry_of: Number of the trial that this one repeats; None where it repeats none.
    """

    number: int
    state: str
    reason: str | None
    retry_of: int | None


def read_trials(study: StudyAddress) -> list[TrialSummary]:
    """All trials of a study in the order of their numbers, those of other processes and of earlier starts included.

    A study that is kept in memory is known to the process that sweeps, as long as it lives.

    Args:
        study: Where it is kept.

    Returns:
        Nothing where there is no such study; no storage is made for it.

    Raises:
        UnreadableStudyError: The storage cannot be read now.
    """
    from optuna_async.storage import stored_trials

    try:
        return [summary(trial) for trial in stored_trials(study)]
    except Exception as error:  # drivers raise what they like
        line = " ".join(str(error).split())
        raise UnreadableStudyError(f"study {study.name!r} cannot be read: {type(error).__name__}: {line}") from error


def summary(trial: "FrozenTrial") -> TrialSummary:
    """One trial of Optuna, summarized."""
    attributes = trial.user_attrs
    return TrialSummary(trial.number, trial.state.name.lower(), attributes.get(REASON), attributes.get(RETRY_OF))
