"""How long a sweep has still to go, and the line that says so in a log."""

from dataclasses import replace

import pytest

from optuna_async import progress
from optuna_async.progress import SweepLine, SweepState, time_left


@pytest.mark.parametrize(
    ("state", "seconds"),
    [
        # Nothing has finished: nothing is known, whatever was given up or taken.
        (SweepState(total=8, at_work_s=[50.0, 20.0], at_once=2), None),
        (SweepState(total=8, ended=3, at_work_s=[50.0], at_once=2), None),
        (SweepState(total=8, ended=1, pruned=1, pruned_s=[3.0], at_work_s=[50.0]), None),
        (SweepState(ended=3, finished_s=[10.0] * 3), None),  # nobody knows of how many
        # One after the other, all alike.
        (SweepState(total=8, ended=2, finished_s=[10.0, 10.0], at_work_s=[4.0]), 6.0 + 5 * 10.0),
        (SweepState(total=8, ended=2, finished_s=[10.0, 10.0]), 60.0),
        (SweepState(total=2, ended=2, finished_s=[10.0, 10.0]), 0.0),
        # Two at once: four wait; the first place is free after 2 s, the second after 6 s.
        (
            SweepState(total=8, ended=2, finished_s=[10.0, 10.0], at_work_s=[8.0, 4.0], at_once=2),
            6.0 + 2 * 10.0,
        ),
        # Five wait for two places: one gets three of them.
        (SweepState(total=7, ended=2, finished_s=[10.0, 10.0], at_once=2), 30.0),
        # Three of the eight were found finished: they ended, and took no time.
        (SweepState(total=8, ended=5, finished_s=[10.0, 10.0], at_work_s=[0.0], at_once=1), 30.0),
        # The last one takes longer than any that finished: late by 60 s, it is expected to be so by as much again.
        (SweepState(total=8, ended=7, finished_s=[20.0, 60.0], at_work_s=[120.0]), 60.0),
        # Of unequal runs, one that has outlasted the short ones is taken for a long one.
        (SweepState(total=3, ended=2, finished_s=[10.0, 90.0], at_work_s=[30.0]), 60.0),
        # What is given up early is part of what is to come.
        (SweepState(total=4, ended=2, pruned=1, finished_s=[30.0], pruned_s=[10.0]), 40.0),
    ],
)
def test_the_time_left(state, seconds):
    assert time_left(state) == (None if seconds is None else pytest.approx(seconds))


def test_slow_runs_at_work_count_for_those_that_wait():
    """Four quick runs have finished, the first of four slow ones is at work: the rest is not promised to be quick."""
    quick = SweepState(total=8, ended=4, finished_s=[20.0] * 4, at_work_s=[0.0])
    slow = replace(quick, at_work_s=[60.0])
    assert time_left(slow) > time_left(quick)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_the_time_left_of_a_sweep_that_is_simulated(at_once):
    """Eight runs of unequal length: the estimate is right where they average out, and never above the whole work."""
    lengths = [10.0, 30.0, 20.0, 40.0, 10.0, 30.0, 20.0, 40.0]
    places = [0.0] * at_once
    spans = []
    for length in lengths:
        begin = min(places)
        places[places.index(begin)] = begin + length
        spans.append((begin, begin + length))
    end = max(places)
    now = sorted(stop for _, stop in spans)[3]  # half of them have ended
    state = SweepState(
        total=8,
        ended=sum(stop <= now for _, stop in spans),
        finished_s=[stop - start for start, stop in spans if stop <= now],
        at_work_s=[now - start for start, stop in spans if start < now < stop],
        at_once=at_once,
    )
    assert time_left(state) == pytest.approx(end - now, rel=0.5)
    assert time_left(state) <= sum(lengths)


def test_in_words():
    state = SweepState(
        total=8, ended=5, failed=1, pruned=2, finished_s=[60.0] * 2, at_work_s=[0.0, 0.0], at_once=2, best="best 0.1"
    )
    assert state.words == "2 at work, 1 failed, 2 pruned, best 0.1, about 2 min left"
    assert SweepState(total=2, at_work_s=[3.0]).words == "1 at work, – left"
    assert SweepState(total=2, ended=2).words == ""


def test_a_log_gets_few_lines_and_no_carriage_returns(capsys):
    line = SweepLine("sweep")
    for ended in range(1, 101):
        for _ in range(3):  # it is looked at more often than it changes
            line.show(SweepState(total=100, ended=ended, at_work_s=[1.0]))
    line.close()
    written = capsys.readouterr().err
    assert "\r" not in written
    lines = written.splitlines()
    assert [text.partition(" runs done")[0] for text in lines] == [f"sweep: {n} of 100" for n in range(10, 101, 10)]


def test_a_log_of_a_slow_sweep_gets_a_line_a_minute_where_something_has_changed(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    line = SweepLine("sweep")
    for clock[0] in range(0, 600, 3):
        line.show(SweepState(total=1000, ended=int(clock[0] // 200), at_work_s=[clock[0]]))
    lines = capsys.readouterr().err.splitlines()
    assert [text.partition(" of")[0] for text in lines] == ["sweep: 0", "sweep: 1", "sweep: 2"]
