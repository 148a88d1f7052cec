"""mlip-compare as it is typed: which runs it takes, in what order it shows them, and what it answers to mistakes."""

import numpy as np
import pandas as pd
import pytest
from recorded_runs import record_run

from mlip_sweep import cli
from mlip_sweep.comparison.selection import condition
from mlip_sweep.errors import InputError
from mlip_sweep.tracking import read, store
from mlip_sweep.tracking.run import record

# label: model, learning rate, error at the minimum (eV/Å), scale of the times to failure (ps)
RUNS = {"a": ("nequip", 0.01, 0.03, 20.0), "b": ("nequip", 0.001, 0.02, 5.0), "c": ("mace", 0.01, 0.01, 0.5)}


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return store.prepare(f"sqlite:///{tmp_path_factory.mktemp('selected')}/mlflow.db")


@pytest.fixture(scope="module")
def sweeps(uri):
    """Two sweeps of the same three choices, each with its own seed: their ids, and by label those of their runs."""
    ids = []
    for seed in (0, 1):
        with record(uri=uri, experiment="mlip-sweep", name=f"sweep {seed}", tags={"kind": "sweep"}) as sweep:
            runs = {}
            for label, (model, rate, error, scale) in RUNS.items():
                params = {"model": model, "optimizer.lr": rate, "optimizer.amsgrad": True, "seed": seed}
                times = scale * np.linspace(0.05, 1.5, 12)
                runs[label] = record_run(uri, "mlip-sweep", label, error, 3.0, times, sweep.run_id, params, seed)
        ids.append((sweep.run_id, runs))
    return ids


@pytest.fixture
def command(uri, sweeps, tmp_path, capsys):
    """Types `mlip-compare` with some arguments: its status, what it compared, and what it said."""

    def typed(*arguments):
        status = cli.compare(["--uri", uri, "--output", str(tmp_path), *arguments])
        said = capsys.readouterr()
        if status:
            assert said.out == ""
            return status, None, said.err
        # By default pandas 2.3 ends with a segmentation fault where an id begins like 1e2147483650, as few of them do.
        return status, pd.read_csv(tmp_path / "comparison.csv", float_precision="round_trip"), said.out

    return typed


def test_without_ids_the_last_sweep_is_compared(command, sweeps):
    status, table, _ = command()
    assert status == 0
    assert set(table["run_id"]) == set(sweeps[1][1].values())


def test_all_runs_of_the_experiment(command, sweeps):
    _, table, _ = command("--all")
    assert set(table["run_id"]) == {run for _, runs in sweeps for run in runs.values()}


def test_several_sweeps_and_runs_by_beginnings_of_their_ids(command, sweeps):
    (first, first_runs), (second, second_runs) = sweeps
    both = {*first_runs.values(), *second_runs.values()}
    assert set(command(first[:8], second)[1]["run_id"]) == both
    assert set(command(first, second_runs["c"][:6])[1]["run_id"]) == {*first_runs.values(), second_runs["c"]}
    _, table, _ = command(first_runs["a"], second_runs["a"], second_runs["b"])
    assert sorted(table.groupby("choice")["seed"].count()) == [1, 2]


@pytest.mark.parametrize(
    ("conditions", "labels"),
    [
        (["model=nequip"], "ab"),
        (["model!=nequip"], "c"),
        (["optimizer.lr<0.01"], "b"),
        (["optimizer.lr<=0.01", "model = NequIP"], "ab"),
        (["optimizer.lr=1e-2"], "ac"),
        (["optimizer.amsgrad=true"], "abc"),
        (["rmse_forces_300K_meV_A>=20"], "ab"),
        (["rmse_forces_300K_meV_A>20"], "a"),
        (["md_time_to_failure_ps>1", "optimizer.lr==0.001"], "b"),
    ],
)
def test_conditions_choose_runs(command, sweeps, conditions, labels):
    status, table, said = command(*(part for one in conditions for part in ("--where", one)))
    assert status == 0, said
    assert set(table["run_id"]) == {sweeps[1][1][label] for label in labels}


def test_a_run_without_a_name_is_neither_above_nor_below(uri, sweeps):
    run = read.stored_runs(uri, "mlip-sweep")[0]
    assert not condition("depth<3").holds(run)
    assert not condition("depth=3").holds(run)
    assert condition("depth!=3").holds(run)


def test_sorting_changes_the_table_but_no_rank(command, tmp_path):
    def shown(said):
        return [line.split()[0] for line in said.splitlines() if line.split() and line.split()[0].rstrip("=").isdigit()]

    _, ranked, said = command("--report")
    usual = shown(said)
    _, table, said = command("--sort", "rmse_forces_high_T_meV_A")
    pd.testing.assert_frame_equal(table, ranked)
    assert shown(said) == usual[::-1]  # by construction the most accurate fails first
    assert "sorted by rmse_forces_high_T_meV_A, lowest first" in said
    _, _, said = command("--sort", "md_survival_fraction")
    assert "sorted by md_survival_fraction, highest first" in said
    assert shown(said) == usual


def test_a_metric_that_the_table_lacks_is_shown_where_it_sorts(command):
    def headings(said):
        return [line for line in said.splitlines() if "stderr" in line and "sorted by" not in line]

    assert headings(command()[2]) == []
    assert len(headings(command("--sort", "loss_entropy_stderr")[2])) == 1


def test_a_report_of_some_runs_does_not_replace_that_of_the_sweep(command, uri, sweeps):
    sweep, _ = sweeps[0]
    assert command(sweep, "--report", "--where", "model=nequip")[0] == 0
    assert read.stored_bytes(uri, sweep, "report.html") is None
    assert command(sweep, "--report")[0] == 0
    assert b"mace" in read.stored_bytes(uri, sweep, "report.html")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--where", "modl=mace"], "no run has a parameter or metric 'modl'; choose model"),
        (["--where", "lr<1"], "no run has a parameter or metric 'lr'; choose optimizer.lr"),
        (["--where", "model=schnet"], "leaves none of 3 runs: model is mace, nequip"),
        (["--where", "rmse_forces_300K_meV_A<1"], "rmse_forces_300K_meV_A goes from 10 to 30"),
        (["--where", "model"], "give NAME=VALUE"),
        (["--where", "=mace"], "give NAME=VALUE"),
        (["--where", "model>mace"], "'mace' is no number"),
        (["--sort", "los_entropy"], "no run has a metric 'los_entropy'; choose loss_entropy"),
        (["--sort", "model"], "no run has a metric 'model'"),
        (["abc"], "'abc' is no id of a run: give at least 6 of its characters"),
        (["' or 1=1"], "is no id of a run"),
        (["0123456789"], "has the id '0123456789'"),
        (["--experiment", "absent"], "'absent' is not in"),
    ],
)
def test_a_mistake_is_answered_in_a_line(command, arguments, expected):
    status, _, said = command(*arguments)
    assert status == 2
    _, line = said.splitlines()  # after the line that says what is compared
    assert line.startswith("mlip-compare: ") and expected in line


def test_ids_and_all_together_are_refused(command, capsys):
    with pytest.raises(SystemExit):
        command("--all", "abcdef")
    assert "--all compares every run" in capsys.readouterr().err


def test_a_beginning_that_several_runs_share_is_refused(uri, sweeps, monkeypatch):
    """Of 17 ids two begin with the same of 16 characters."""
    monkeypatch.setattr(read, "SHORTEST_ID", 1)
    ids = [run for sweep, runs in sweeps for run in (sweep, *runs.values())]
    for place in range(17 - len(ids)):
        with record(uri=uri, experiment="others", name=str(place)) as rec:
            ids.append(rec.run_id)
    first = [run[0] for run in ids]
    twice = next(one for one in first if first.count(one) > 1)
    with pytest.raises(InputError, match=rf"'{twice}' begins the ids of {first.count(twice)} runs"):
        read.run_of_id(uri, twice)
