"""The sweeper's parts: search space, what an end means, which trials are abandoned."""

import inspect
import os
import platform
import signal
import time

import optuna
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from optuna_async import outcome as outcomes
from optuna_async.config import PRUNERS, SAMPLERS, StudyAddress, without_passwords
from optuna_async.launchers import LauncherThreads
from optuna_async.liveness import SILENCE_S
from optuna_async.outcome import Outcome, judged
from optuna_async.space import Space, parse_space
from optuna_async.storage import open_storage
from optuna_async.study import SweepStudy
from optuna_async.sweeper import warn_of_password
from optuna_async.trials import OWNER, REASON, RETRY_OF, own, summary


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=choice(nequip,mace)", CategoricalDistribution(["nequip", "mace"])),
        ("a=nequip,mace", CategoricalDistribution(["nequip", "mace"])),
        ("a=1,2.5,true,null", CategoricalDistribution([1, 2.5, True, None])),
        ("a=choice('x y',[1,2],{b:3})", CategoricalDistribution(["x\\ y", "[1,2]", "{b:3}"])),
        ("a=range(1,4)", IntDistribution(1, 3)),  # as in Hydra, without its end
        ("a=range(4)", IntDistribution(0, 3)),
        ("a=range(1,6,step=2)", IntDistribution(1, 5, step=2)),
        ("a=range(1,7,step=2)", IntDistribution(1, 5, step=2)),
        ("a=range(4,1,step=-1)", IntDistribution(2, 4)),
        ("a=range(0.0,1.0,step=0.25)", FloatDistribution(0.0, 0.75, step=0.25)),
        ("a=range(0.1,0.4,step=0.1)", FloatDistribution(0.1, 0.3, step=0.1)),
        ("a=tag(a,b,choice(1,2))", CategoricalDistribution([1, 2])),
        ("a=sort(3,1,2)", CategoricalDistribution([1, 2, 3])),
        ("a=float(interval(0,1))", FloatDistribution(0.0, 1.0)),
        ("a=interval(0,1)", FloatDistribution(0.0, 1.0)),
        ("a=int(interval(1,8))", IntDistribution(1, 8)),
        ("a=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 1e-1, log=True)),
        ("a=tag(log,int(interval(1,100)))", IntDistribution(1, 100, log=True)),
        ("a=shuffle(range(1,4))", CategoricalDistribution([1, 2, 3])),
    ],
)
def test_the_language_of_overrides_as_distributions(override, expected):
    assert parse_space({}, [override], None).distributions == {"a": expected}


def test_the_command_line_goes_before_the_config_whatever_the_prefix():
    space = parse_space({"a": "choice(1,2)", "b": "choice(3,4)", "c": 5}, ["+a=interval(0,1)", "++b=3", "~d"], None)
    assert space.distributions == {"+a": FloatDistribution(0.0, 1.0)}
    assert space.overrides({"+a": 0.5}) == ["++b=3", "c=5", "~d", "+a=0.5"]


def test_values_come_back_as_overrides_that_mean_the_same():
    parser = OverridesParser.create()
    space = parse_space({}, ["a='x,y',null,true,[1,'2'],1e-07,none"], None)
    values = [
        parser.parse_override(space.overrides({"a": choice})[0]).value() for choice in space.distributions["a"].choices
    ]
    assert values == ["x,y", None, True, [1, "2"], 1e-07, "none"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["a=range(3,1)"], "an empty range"),
        (["a=range(1,3,step=0)"], "an empty range"),
        (["a=interval(0)"], "OverrideParseException|parsing"),
        (["a=shuffle(range(0,1000000000))"], "shuffles more than 100,000 values"),
    ],
)
def test_a_sweep_of_nothing_or_of_too_much_is_refused(overrides, said):
    with pytest.raises(ConfigCompositionException, match=f"search space: .*({said})"):
        parse_space({}, overrides, None)


def test_a_parameter_of_the_config_in_several_parts_is_answered_with_its_whole_name():
    with pytest.raises(ConfigCompositionException, match=r"give each parameter by its whole name.*'optimizer.lr: "):
        parse_space({"optimizer": {"lr": "interval(0,1)"}}, [], None)


def test_a_grid_of_too_many_points_is_refused_before_they_are_written_down():
    space = parse_space({}, [f"{key}=range(0,100)" for key in "abcd"], None)
    with pytest.raises(ConfigCompositionException, match=r"a grid of 1e\+08 combinations, more than 100,000"):
        space.grid()


@pytest.mark.parametrize(
    "value", ["c,d", "choice(1,2)", "a b", "it's", "[1", "${x}", "x=y", "", "model", 1, 2.5, True, None, "1e-3,"]
)
def test_a_value_of_a_custom_search_space_comes_back_as_one_value(value):
    (override,) = Space({}, {}, "more").overrides({"key": value})
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    assert parsed.value() == value


def test_a_custom_search_space_cannot_overrule_the_command_line():
    space = parse_space({"y": 1, "z": 2}, ["+y=7", "~d"], "module.more")
    space.refuse_fixed({"x": 1.0, "d": 2})
    with pytest.raises(ValueError, match=r"custom_search_space=module.more suggests y, which \+y=7 fixes"):
        space.refuse_fixed({"x": 1.0, "y": 2})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql+psycopg://ada:se/cr@et@host/db", "postgresql+psycopg://ada:***@host/db"),
        ("postgresql//ada:secret@host", "postgresql//ada:***@host"),
        ("postgresql://host/db?user=ada&password=secret&ssl=1", "postgresql://host/db?user=ada&password=***&ssl=1"),
        ("sqlite:///optuna.db", "sqlite:///optuna.db"),
        ("journal:///shared/a:b.log", "journal:///shared/a:b.log"),
    ],
)
def test_no_password_is_shown(text, shown):
    assert without_passwords(text) == shown
    assert "secret" not in outcomes.of_exception(RuntimeError(f"no answer of {text}")).reason


@pytest.mark.parametrize(
    "storage", ["postgresql//ada:secret@host/db", "nodriver://ada:secret@host/db", "sqlite:///folder"]
)
def test_a_storage_that_cannot_be_opened_is_told_at_once_and_without_its_password(tmp_path, storage):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigCompositionException, match=r"hydra.sweeper.storage=\S+: \w+: ") as refused:
        open_storage(StudyAddress(storage, "study", str(tmp_path)))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("storage", "warned"),
    [
        ("postgresql://ada:secret@host/db", True),
        ("${oc.env:STUDIES}", False),
        ("postgresql://ada@host/db", False),
        (None, False),
    ],
)
def test_a_password_in_the_config_is_warned_of_and_one_elsewhere_is_not(caplog, monkeypatch, storage, warned):
    monkeypatch.setenv("STUDIES", "postgresql://ada:secret@host/db")
    warn_of_password(OmegaConf.create({"hydra": {"sweeper": {"storage": storage}}}))
    assert ("hydra.sweeper.storage='${oc.env:NAME}'" in caplog.text) == warned
    assert "secret" not in caplog.text


@pytest.mark.parametrize("entry", [*SAMPLERS.values(), *PRUNERS.values()], ids=[*SAMPLERS, *PRUNERS])
def test_the_groups_hold_the_keys_of_optuna_with_its_own_defaults(entry):
    if entry["_target_"].endswith("MOTPESampler"):
        return
    keywords = inspect.signature(get_class(entry["_target_"])).parameters
    given = {key: value for key, value in entry.items() if not key.startswith("_")}
    assert given == {key: keywords[key].default for key in given}


@pytest.mark.parametrize(
    ("values", "n", "kind"),
    [
        (1.5, 1, None),
        ([1.5], 1, None),
        ((1, 2.0), 2, None),
        (torch.tensor(2.0), 1, None),
        (float("nan"), 1, outcomes.NOT_FINITE),
        ((1.0, float("-inf")), 2, outcomes.NOT_FINITE),
        (None, 1, outcomes.NO_VALUE),
        (None, 2, outcomes.NO_VALUE),
        ("1.5", 1, outcomes.NOT_FINITE),
        (1.0, 2, outcomes.ARITY),
        ((1.0, 2.0), 1, outcomes.ARITY),
    ],
)
def test_what_a_trial_returns_is_judged(values, n, kind):
    outcome = judged(values, n)
    assert (outcomes.kind_of(outcome.reason) if outcome.reason else None) == kind
    assert kind or len(outcome.values) == n


def raised(function) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


def test_running_out_of_memory_is_told_apart_from_a_bug():
    really = raised(lambda: torch.empty(2**50))  # a plain RuntimeError of torch's allocator
    assert type(really) is RuntimeError
    wrapped = raised(lambda: instantiate({"_target_": "torch.empty", "_args_": [2**50]}))
    assert isinstance(wrapped, InstantiationException)
    for error in (really, wrapped, MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory")):
        assert outcomes.kind_of(outcomes.of_exception(error).reason) == outcomes.MEMORY, error
    assert outcomes.of_exception(ValueError("out\nof range")).reason == "error: ValueError: out of range"


def test_ends_without_an_exception_are_told_apart():
    assert outcomes.of_exception(optuna.TrialPruned("early")) == Outcome(reason="early", pruned=True)
    assert outcomes.of_exit(-9, memory_killer=False).reason == "killed: signal 9"
    assert outcomes.of_exit(-9, memory_killer=True).reason == "out of memory: killed by the kernel"
    assert outcomes.kind_of(outcomes.of_exit(3, memory_killer=True).reason) == outcomes.ERROR
    assert outcomes.of_exception(SystemExit(128 + signal.SIGTERM)).reason == "killed: signal 15"
    assert outcomes.kind_of(outcomes.of_exception(SystemExit("no data")).reason) == outcomes.ERROR


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Job 7 has not produced any output (state: OUT_OF_MEMORY)", outcomes.MEMORY),
        ("Job 7 has not produced any output (state: OUT_OF_ME+)", outcomes.MEMORY),
        ("Job 7 has not produced any output (state: TIMEOUT)", outcomes.TIMEOUT),
        ("Job not requeued because: timed-out too many times.", outcomes.TIMEOUT),
        ("Job 7 has not produced any output (state: CANCELLED by 0)", outcomes.KILLED),
        (f"Job 7 has not produced (state: NODE_FAIL)\n{'-' * 40}\nits log: this job is timed-out", outcomes.KILLED),
    ],
)
def test_what_slurm_says_of_a_job_is_understood(message, kind):
    submitit = pytest.importorskip("submitit")
    error = submitit.core.utils.UncompletedJobError(message)
    assert outcomes.kind_of(outcomes.of_launch_error(error).reason) == kind
    assert outcomes.kind_of(outcomes.of_exception(error).reason) == kind  # raised within the job


def study(tmp_path, **changes) -> SweepStudy:
    space = Space({"x": FloatDistribution(0.0, 1.0)}, {})
    parts = {
        "name": "parts",
        "storage": optuna.storages.InMemoryStorage(),
        "directions": ["minimize"],
        "space": space,
        "sampler": lambda number: optuna.samplers.RandomSampler(seed=number),
        "pruner": optuna.pruners.NopPruner(),
        "n_trials": 3,
        "lock": tmp_path / "lock",
    }
    return SweepStudy(**(parts | changes))


def test_only_trials_whose_sweep_has_gone_are_taken_up(tmp_path):
    ours = study(tmp_path)
    here, ours_now = platform.node(), time.time()
    owners = {
        "alive elsewhere": ("elsewhere 1/1.00", ours_now),
        "silent elsewhere": ("elsewhere 2/1.00", ours_now - SILENCE_S - 1),
        "gone here": (f"{here} {os.getpid()}/1.00", ours_now),  # the number is used again, by this process
    }
    for owner, seen in owners.values():
        trial = ours.claim()
        trial.set_user_attr(OWNER, owner)
        ours.study.set_user_attr(f"seen {owner}", seen)
    assert ours.claim() is None  # the total is reached
    assert ours.close_abandoned() == [1, 2]
    assert own(ours.claim(), RETRY_OF) == 1
    assert own(ours.claim(), RETRY_OF) == 2
    assert ours.claim() is None
    assert ours.close_abandoned() == []  # its own


def test_a_trial_is_lined_up_again_once_and_then_makes_place(tmp_path):
    ours = study(tmp_path, n_trials=1)
    killed = Outcome(reason="killed: signal 9")
    first = ours.claim()
    ours.tell(first.number, killed)
    second = ours.claim()
    assert (second.params, own(second, RETRY_OF)) == (first.params, 0)
    ours.tell(second.number, killed)
    third = ours.claim()
    assert own(third, RETRY_OF) is None
    assert third.params != first.params
    ours.tell(third.number, Outcome(values=[1.0]))
    assert ours.claim() is None


def test_a_retry_that_was_lined_up_before_the_process_ended_is_not_lined_up_again(tmp_path):
    ours = study(tmp_path)
    trial = ours.claim()
    trial.set_user_attr(OWNER, f"{platform.node()} {os.getpid()}/1.00")
    ours.study.enqueue_trial(trial.params, user_attrs={RETRY_OF: trial.number})  # … and killed before it could tell
    ours.close_abandoned()
    assert [t.state for t in ours.trials()] == [TrialState.FAIL, TrialState.WAITING]


def test_a_point_of_a_grid_is_never_given_up_for_an_interruption(tmp_path):
    ours = study(tmp_path, n_trials=1, grid=True)
    for _ in range(3):
        ours.tell(ours.claim().number, Outcome(reason="interrupted: the sweep was stopped"))
    assert [own(t, RETRY_OF) for t in ours.trials()] == [None, 0, 1, 2]
    assert len({str(t.system_attrs.get("fixed_params", t.params)) for t in ours.trials()}) == 1


def test_fixed_parameters_of_any_name_are_no_attributes_of_the_sweeper(tmp_path):
    names = ("owner", "reason", "retry_of")
    space = Space({"x": FloatDistribution(0.0, 1.0)}, {name: f"{name}=alice" for name in names})
    ours = study(tmp_path, space=space)
    trial = ours.claim()
    assert {name: trial.user_attrs[name] for name in names} == dict.fromkeys(
        names, "alice"
    )  # a custom space asks for them
    theirs = study(tmp_path, space=space, storage=ours.storage)
    assert theirs.close_abandoned() == []  # this process is at work
    ours.tell(trial.number, Outcome(values=[1.0]))
    assert [(one.reason, one.retry_of) for one in map(summary, ours.trials())] == [(None, None)]


def test_attributes_of_studies_before_the_prefix_are_read(tmp_path):
    ours = study(tmp_path)
    trial = ours.study.ask()
    trial.set_user_attr("owner", "gone 1/1.00")
    trial.set_user_attr("retry_of", 7)
    assert own(trial, OWNER) == "gone 1/1.00"
    assert ours.close_abandoned() == [trial.number]
    assert (own(ours.trials()[0], RETRY_OF), len(ours.trials())) == (7, 1)  # and is not tried a third time
    assert own(ours.trials()[0], REASON).startswith("interrupted")


def test_brute_force_ends_with_its_space_whoever_took_the_last_point(tmp_path):
    parts = {
        "space": Space({"a": CategoricalDistribution(["p", "q"]), "b": IntDistribution(0, 2)}, {}),
        "sampler": lambda number: optuna.samplers.BruteForceSampler(seed=number),
        "n_trials": 20,
    }
    ours = study(tmp_path, **parts)
    theirs = study(tmp_path, **parts, storage=ours.storage)
    claimed = [trial for trial in (one.claim() for one in (ours, theirs) * 10) if trial is not None]
    assert len(claimed) == len({str(trial.params) for trial in claimed}) == 6
    for trial in claimed[:5]:
        ours.tell(trial.number, Outcome(values=[1.0]))
    ours.tell(claimed[5].number, Outcome(reason="killed: signal 9"))
    again = theirs.claim()
    assert (again.params, own(again, RETRY_OF)) == (claimed[5].params, claimed[5].number)
    theirs.tell(again.number, Outcome(values=[1.0]))
    assert ours.claim() is theirs.claim() is None


def test_two_programs_do_not_share_a_study(tmp_path):
    ours = study(tmp_path)
    ours.refuse_another_program("a.py")
    ours.refuse_another_program("b.py")  # nothing has been run
    ours.tell(ours.claim().number, Outcome(values=[1.0]))
    ours.refuse_another_program("b.py")
    with pytest.raises(
        ConfigCompositionException, match=r"trials of another program, b.py; this one is a.py.*study_name="
    ):
        ours.refuse_another_program("a.py")


def test_a_study_of_another_tool_is_not_taken_over(tmp_path):
    storage = optuna.storages.InMemoryStorage()
    other = optuna.create_study(study_name="parts", storage=storage)
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ConfigCompositionException, match="x: stored nothing, now FloatDistribution"):
        study(tmp_path, storage=storage)


class Together:
    """A launcher that is given several jobs at once; jobs of odd numbers fail."""

    jobs_together = 4

    def __init__(self):
        self.launches = []

    def launch(self, job_overrides, initial_job_idx):
        self.launches.append((initial_job_idx, [overrides[0] for overrides in job_overrides]))
        jobs = []
        for number, _ in enumerate(job_overrides, start=initial_job_idx):
            job = JobReturn(status=JobStatus.FAILED if number % 2 else JobStatus.COMPLETED)
            job.return_value = ValueError("odd") if number % 2 else float(number)
            jobs.append(job)
        return jobs


def test_a_launcher_of_several_jobs_gets_them_at_once_under_their_own_numbers():
    launcher = Together()
    slots = LauncherThreads(6, launcher)
    assert slots.free == 6
    for number in (3, 4, 5, 9, 10, 11):  # others of the study's numbers belong to another sweep
        slots.start(number, [f"job={number}"])
    assert slots.free == 0
    ended = {}
    while len(ended) < 6:
        ended |= dict(slots.wait(10.0))
        assert slots.free == (6 if len(ended) == 6 else 0)  # what runs together ends together
    assert launcher.launches == [(3, ["job=3", "job=4", "job=5"]), (9, ["job=9", "job=10", "job=11"])]
    assert {number: outcome.values for number, outcome in ended.items() if number % 2 == 0} == {4: 4.0, 10: 10.0}
    assert all(ended[number].reason == "error: ValueError: odd" for number in (3, 5, 9, 11))
