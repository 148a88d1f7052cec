"""A stored study: taken up again, shared by processes, with its trials counted as the user counts them."""

import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from hydra.errors import ConfigCompositionException
from optuna.samplers import BaseSampler, BruteForceSampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from optuna_async import liveness
from optuna_async import outcome as outcomes
from optuna_async.liveness import Heartbeat, ProcessIdentity
from optuna_async.outcome import Outcome
from optuna_async.sampler import FIXED
from optuna_async.space import Space, differences
from optuna_async.storage import study_id
from optuna_async.trials import OWNER, REASON, RETRY_OF, own

# Attributes of a stored study.
SPACE = "search_space"
FIXED_OVERRIDES = "fixed"
PROGRAM = "program"
IDENTITY = "identity"
LAST_SEEN = "seen {owner}"  # when a sweep has given its last sign of life
# Trials that ended so leave their place among n_trials to another: the same once more, or a new one.
PLACE_IS_FREE = (outcomes.KILLED, outcomes.INTERRUPTED)


class _Study(optuna.Study):
    """A study without `optimize`, which a sampler may stop all the same."""

    stopped = False

    def stop(self) -> None:
        """Take note that the sampler has nothing more to try."""
        self.stopped = True


class SweepStudy:
    """The study, as the one process that asks and tells here sees it.

    Args:
        name: Name of the study in its storage.
        storage: Where the study is kept.
        directions: "minimize" or "maximize", for each objective.
        space: The space to be searched.
        sampler: A function from the number of a trial to the sampler that chooses its parameters.
        pruner: The pruner of the study.
        n_trials: Total number of trials.
        lock: A file that is shared by all processes that work on the study.
        grid: Whether no trial can stand in for another; one that is interrupted is then repeated as often as it takes.

    Raises:
        ConfigCompositionException: The stored study has another search space or other directions.
    """

    def __init__(
        self,
        name: str,
        storage: BaseStorage,
        directions: list[str],
        space: Space,
        sampler: Callable[[int], BaseSampler],
        pruner: optuna.pruners.BasePruner,
        n_trials: int,
        lock: Path,
        *,
        grid: bool = False,
    ) -> None:
        self.storage = storage
        self.space = space
        self.n_trials = n_trials
        self._sampler = sampler
        self._grid = grid
        self._lock = FileLock(lock)
        self._owner = str(liveness.identity())
        self._heartbeat = Heartbeat(self._sign)
        with self._lock:
            optuna.create_study(
                study_name=name,
                storage=storage,
                directions=[StudyDirection[word.upper()] for word in directions],
                load_if_exists=True,
            )
            self.study = _Study(name, storage, pruner=pruner)
            self._refuse_another_space(directions)
            self.beat()

    def _refuse_another_space(self, directions: list[str]) -> None:
        now = {**self.space.described(), "direction": ", ".join(directions)}
        stored = self.study.user_attrs.get(SPACE, {}) if self.trials() else self.space.described()
        stored = {**stored, "direction": ", ".join(word.name.lower() for word in self.study.directions)}
        if changed := differences(stored, now):
            raise ConfigCompositionException(
                f"study {self.study.study_name!r} was searching another space; go on as before, or begin another with "
                "hydra.sweeper.study_name=NAME:\n  " + "\n  ".join(changed)
            )
        if not self.trials():
            self.study.set_user_attr(SPACE, self.space.described())
        if IDENTITY not in self.study.user_attrs:  # a name is used again, after a storage is deleted
            self.study.set_user_attr(IDENTITY, uuid.uuid4().hex)

    @property
    def identity(self) -> str:
        """A text that this study has, and no other of the same name."""
        return str(self.study.user_attrs[IDENTITY])

    def refuse_another_program(self, program: str) -> None:
        """Keep the trials of two programs apart, whose configs have the same name.

        Args:
            program: What the program that sweeps is told by.

        Raises:
            ConfigCompositionException: The study has trials of another one.
        """
        stored = self.study.user_attrs.get(PROGRAM, program) if self.trials() else program
        if stored != program:
            raise ConfigCompositionException(
                f"study {self.study.study_name!r} holds the trials of another program, {stored}; this one is "
                f"{program}: begin another study with hydra.sweeper.study_name=NAME"
            )
        self.study.set_user_attr(PROGRAM, program)

    def changed_overrides(self) -> list[str]:
        """The fixed overrides that differ from those of the start before, one line for each.

        They may change what a trial gives, or be no more than a path or a switch, which nobody here can tell. So trials
        that are still to be run go on with the new values, which the caller says; where none is, the old results would
        be shown as those of the new values, and the change is refused.

        Raises:
            ConfigCompositionException: No trial is left to be run with the new values.
        """
        now = dict(self.space.fixed)
        changed = differences(self.study.user_attrs.get(FIXED_OVERRIDES, now), now)
        if changed and self.count(self.trials()) >= self.n_trials:
            raise ConfigCompositionException(
                f"study {self.study.study_name!r} has its {self.n_trials} trials, with other fixed values than now, "
                "and nothing was run; begin another with hydra.sweeper.study_name=NAME, or go on in this one with more "
                "trials, hydra.sweeper.n_trials=N:\n  " + "\n  ".join(changed)
            )
        self.study.set_user_attr(FIXED_OVERRIDES, now)
        return changed

    def trials(self) -> list[FrozenTrial]:
        """All trials, as they are now in the storage."""
        return self.storage.get_all_trials(study_id(self.study), deepcopy=False)

    def count(self, trials: list[FrozenTrial], *, running: bool = True) -> int:
        """How many trials count towards the total: those that ended by themselves and, with `running`, that run now."""
        repeated = repeated_numbers(trials)

        def counts(trial: FrozenTrial) -> bool:
            if trial.state == TrialState.FAIL:
                kind = outcomes.kind_of(own(trial, REASON) or "")
                # A point of the grid that is killed again and again is lost; elsewhere a new trial makes up for it.
                return kind not in PLACE_IS_FREE or (self._grid and trial.number not in repeated)
            return trial.state.is_finished() or (running and trial.state == TrialState.RUNNING)

        return sum(map(counts, trials))

    def beat(self) -> None:
        """Say, now and then, that this process is at work, since processes on other hosts cannot look."""
        self._heartbeat.beat()

    def _sign(self) -> None:
        self.study.set_user_attr(LAST_SEEN.format(owner=self._owner), time.time())

    def claim(self, configure: Callable[[Trial], None] | None = None) -> Trial | None:
        """Ask for the next trial.

        Args:
            configure: Suggests parameters beyond the space.

        Returns:
            None where the total is reached.

        Raises:
            ConfigCompositionException: The parameters of the trial could not be chosen.
        """
        with self._lock:
            trials = self.trials()
            if self.count(trials) >= self.n_trials:
                return None
            self.study.sampler = self._sampler(len(trials))
            if self._is_exhausted(trials):
                return None
            trial = self.study.ask()
            trial.set_user_attr(OWNER, self._owner)
            for key, override in self.space.fixed.items():  # where a custom search space looks for them
                trial.set_user_attr(key, override.partition("=")[2])
            try:
                for key, distribution in self.space.distributions.items():
                    trial._suggest(key, distribution)
                if configure is not None:
                    configure(trial)
                    self.space.refuse_fixed(trial.params)
            except Exception as error:
                self.tell(trial.number, outcomes.of_exception(error))
                line = " ".join(str(error).split())
                raise ConfigCompositionException(
                    f"the parameters of trial {trial.number} could not be chosen: {type(error).__name__}: {line}"
                ) from error
            return trial

    def _is_exhausted(self, trials: list[FrozenTrial]) -> bool:
        """Whether the sampler has nothing more to try. Brute force says so after a trial only; here it is asked."""
        asked = [trial for trial in trials if trial.state != TrialState.WAITING]
        if isinstance(self.study.sampler, BruteForceSampler) and asked:
            self.study.stopped = False
            self.study.sampler.after_trial(self.study, asked[-1], asked[-1].state, asked[-1].values)
        return self.study.stopped and len(asked) == len(trials)

    def tell(self, number: int, outcome: Outcome) -> None:
        """Record what became of a trial, and queue it again where it was killed."""
        trial = self.trials()[number]
        if trial.state.is_finished():
            return
        if outcome.reason is not None:
            self._set(trial, REASON, outcome.reason)
        if outcome.pruned:
            self.study.tell(number, state=TrialState.PRUNED)
        elif outcome.reason is not None:
            if outcomes.kind_of(outcome.reason) in PLACE_IS_FREE:
                self._retry(trial, outcomes.kind_of(outcome.reason))
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, outcome.values)

    def close_abandoned(self) -> list[int]:
        """Close the trials whose sweep has gone, and queue each of them again.

        Returns:
            Their numbers.
        """
        with self._lock:
            running = [trial for trial in self.trials() if trial.state == TrialState.RUNNING]
            abandoned = [trial for trial in running if self._is_abandoned(trial)]
            for trial in abandoned:
                self.tell(
                    trial.number, Outcome(reason=outcomes.reason(outcomes.INTERRUPTED, "its sweep ended around it"))
                )
        return [trial.number for trial in abandoned]

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        owner = own(trial, OWNER)
        if owner is None:
            return True  # its process ended between asking and signing, which happens under the lock
        last_seen = float(self.study.user_attrs.get(LAST_SEEN.format(owner=owner), 0.0))
        return liveness.has_ended(
            ProcessIdentity.parse(owner), if_elsewhere=liveness.is_silent(time.time() - last_seen)
        )

    def _retry(self, trial: FrozenTrial, kind: str) -> None:
        """Queue a trial again, once; after that, another takes its place."""
        if own(trial, RETRY_OF) is not None and not (self._grid and kind == outcomes.INTERRUPTED):
            return
        if trial.number in repeated_numbers(self.trials()):
            return  # the process that did so ended before it could close the trial
        params = {**trial.system_attrs.get(FIXED, {}), **trial.params}
        if params:
            self.study.enqueue_trial(params, user_attrs={RETRY_OF: trial.number})

    def _set(self, trial: FrozenTrial, key: str, value: Any) -> None:
        self.storage.set_trial_user_attr(trial._trial_id, key, value)


def repeated_numbers(trials: list[FrozenTrial]) -> set[int]:
    """The numbers of the trials that another one repeats."""
    return {number for trial in trials if (number := own(trial, RETRY_OF)) is not None}


def failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed, and not only the sweep around it."""
    interrupted = outcomes.kind_of(own(trial, REASON) or "") == outcomes.INTERRUPTED
    return trial.state == TrialState.FAIL and not interrupted
