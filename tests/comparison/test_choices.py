"""What may be compared with what: groups, choices, seeds and their names."""

import pytest
from recorded_runs import stored

from mlip_sweep.comparison.choices import (
    choice_key,
    choice_of,
    differences,
    group_of,
    labels,
    seed_of,
    without_later_defaults,
)

PARAMS = {
    "model": "nequip",
    "model.num_layers": "2",
    "model.l_max": "1",
    "optimizer": "adam",
    "optimizer.lr": "0.01",
    "optimizer.amsgrad": "False",
    "averaging": "none",
    "dataset": "ethanol_xtb",
    "dataset.seed": "0",
    "trainer": "auto",
    "trainer.max_epochs": "100",
    "trainer.progress": "True",
    "seed": "0",
    "seeds.model": "0",
    "seeds.order": "0",
    "measurement": "quick",
    "measurement.stability.duration_ps": "2.0",
    "measurement.stability.seed": "0",
    "measurement.landscape.progress": "True",
    "tracking.uri": "sqlite:///mlflow.db",
}
SOURCES = {"data.sources": "aaa  train.xyz\nbbb  600K.xyz"}


@pytest.mark.parametrize(
    "other",
    [
        {"seed": "3", "seeds.model": "3", "seeds.order": "3"},
        {"trainer.progress": "False", "trainer": "gpu"},
        {"tracking.uri": "http://elsewhere", "measurement.landscape.progress": "False"},
    ],
)
def test_seeds_and_the_way_it_ran_are_no_choice(other):
    assert choice_key(PARAMS) == choice_key(PARAMS | other)


@pytest.mark.parametrize("name", ["model.l_max", "optimizer.lr", "averaging", "trainer.max_epochs"])
def test_all_else_is_a_choice(name):
    assert choice_key(PARAMS) != choice_key(PARAMS | {name: "other"})


LATER = {"loss": "constant", "loss.energy_weight": "1000.0"}  # conf/loss/constant.yaml: huber_delta null, 10 for forces


@pytest.mark.parametrize(
    ("added", "same"),
    [
        ({"loss.huber_delta": "None"}, True),  # as the file of its group has it
        ({"loss.validation.forces_weight": "10"}, True),  # however it is written
        ({"loss.huber_delta": "0.01"}, False),  # somebody has chosen it
        ({"loss.nobody_knows": "None"}, False),
        ({"published": "mace_v2-swa", "loss.cycle.stress_weight": "0.0"}, False),
    ],
)
def test_a_setting_that_was_added_later_makes_no_choice_of_older_runs(added, same):
    older, newer = without_later_defaults([PARAMS | LATER, PARAMS | LATER | added])
    assert (choice_key(older) == choice_key(newer)) is same
    if not same:
        assert newer == PARAMS | LATER | added


def test_a_published_model_has_settings_of_its_own():
    swa = PARAMS | {"published": "mace_v2-swa"}
    older, newer = without_later_defaults([swa, swa | {"loss.cycle.stress_weight": "0.0"}])
    assert older == newer == swa


def test_a_setting_that_some_have_changed_stays_theirs():
    runs = [PARAMS | LATER, *(PARAMS | LATER | {"loss.huber_delta": value} for value in ("None", "0.1"))]
    older, as_before, changed = without_later_defaults(runs)
    assert older == as_before == PARAMS | LATER
    assert changed == runs[-1]


def test_choices_of_other_groups_lose_it_too_so_that_they_differ_in_nothing_else():
    cycle = PARAMS | LATER | {"loss": "weight_cycle", "loss.huber_delta": "None"}
    older, newer = without_later_defaults([PARAMS | LATER, cycle])
    assert choice_key(older) != choice_key(newer)
    assert newer == PARAMS | LATER | {"loss": "weight_cycle"}


def test_a_class_stands_for_itself_in_a_label():
    classes = [PARAMS | {"optimizer._target_": f"torch.optim.{name}"} for name in ("RAdam", "NAdam")]
    assert labels(classes) == ["RAdam", "NAdam"]


def test_seeds_are_named_as_people_write_them():
    assert seed_of(PARAMS) == "0"
    assert seed_of(PARAMS | {"seeds.model": "4"}) == "4/0"
    assert seed_of({}) == "0"


@pytest.mark.parametrize(
    ("params", "tags", "same"),
    [
        ({}, SOURCES, True),
        ({}, {"data.sources": "bbb  /elsewhere/600K.xyz\naaa  /elsewhere/train.xyz"}, True),  # moved files are the same
        ({"dataset.seed": "0", "averaging": "ema", "measurement.landscape.progress": "False"}, SOURCES, True),
        ({"measurement.stability.seed": "1"}, SOURCES, True),
        ({"measurement.stability.duration_ps": "0.2"}, SOURCES, False),
        ({}, {"data.sources": "ccc  train.xyz\nbbb  600K.xyz"}, False),
    ],
)
def test_a_group_is_what_was_measured_alike(params, tags, same):
    reference = group_of(stored("a", PARAMS, {}, SOURCES))
    assert (group_of(stored("b", PARAMS | params, {}, tags)) == reference) is same


def test_labels_say_what_differs_and_nothing_that_follows_from_it():
    mace = {"model": "mace", "model.max_ell": "2", **{k: v for k, v in PARAMS.items() if not k.startswith("model")}}
    choices = [
        PARAMS,
        PARAMS | {"model.num_layers": "3"},
        mace,
        mace | {"averaging": "swa", "optimizer.lr": "0.0123456"},
    ]
    assert labels([choice_of(params) for params in choices]) == [
        "nequip · no averaging · num_layers 2 · lr 0.01",
        "nequip · no averaging · num_layers 3 · lr 0.01",
        "mace · no averaging · lr 0.01",
        "mace · swa · lr 0.01235",
    ]
    assert labels([choice_of(PARAMS)]) == ["nequip"]


def test_groups_are_told_apart_in_words():
    short = PARAMS | {"measurement.stability.duration_ps": "0.2", "averaging": "ema"}
    assert differences([PARAMS, short]) == ["stability.duration_ps 2.0", "stability.duration_ps 0.2"]
    metal = PARAMS | {"dataset": "aluminium_emt", "dataset.seed": "0"}
    assert differences([PARAMS, metal]) == ["dataset ethanol_xtb", "dataset aluminium_emt"]
    assert differences([PARAMS, dict(PARAMS)]) == ["data 1", "data 2"]
