"""What became of the trials of a study, as data for the program that is swept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optuna_async.config import StudyAddress, without_passwords

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# The sweeper's own attributes of a stored trial. The fixed parameters stand beside them, under their plain names.
OWN = "optuna_async:"
OWNER = f"{OWN}owner"  # the sweep that runs it
REASON = f"{OWN}reason"
RETRY_OF = f"{OWN}retry_of"


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
        line = without_passwords(" ".join(str(error).split()))
        raise UnreadableStudyError(f"study {study.name!r} cannot be read: {type(error).__name__}: {line}") from error


def summary(trial: "FrozenTrial") -> TrialSummary:
    """One trial of Optuna, summarized."""
    return TrialSummary(trial.number, trial.state.name.lower(), own(trial, REASON), own(trial, RETRY_OF))


def own(trial: "FrozenTrial", attribute: str) -> Any:
    """An attribute that the sweeper has given a trial; None where it has not.

    Args:
        trial: Of any study. Earlier versions wrote the attributes without the prefix.
        attribute: `OWNER`, `REASON` or `RETRY_OF`.
    """
    attributes = trial.user_attrs
    if OWNER in attributes or attribute in attributes:
        return attributes.get(attribute)
    return attributes.get(attribute.removeprefix(OWN))
