"""Values of a training under way are those of the weights that are validated, and a search may end it."""

from functools import partial

import pytest
import torch
from samples import ethanol_dataset, installed, small_model

from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.graphs import batches
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.intermediate import (
    TOLERANCE,
    FollowTraining,
    IntermediateLossEntropy,
    IntermediateValidationLoss,
)
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LossEntropy
from mlip_sweep.training.averaging import ExponentialAverage
from mlip_sweep.training.fit import Recipe, fit
from mlip_sweep.training.loss import weighted_loss

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")
DATASET = ethanol_dataset()


LONG = 40  # epochs after which the small model has learnt


class GivenUpError(Exception):
    """What a search raises."""


class HearingTrial:
    """A trial that is given up at its n-th value."""

    def __init__(self, give_up: int = 99) -> None:
        self.values: list[tuple[int, float, bool]] = []
        self.give_up = give_up

    def __call__(self, value, step, *, more_is_better, told):
        self.values.append((step, value, more_is_better))
        if len(self.values) == self.give_up:
            raise GivenUpError(told)


def train(folder, value, epochs, trial=None):
    model = small_model("nequip", DATASET)
    loss = weighted_loss({"energy": 1.0, "forces": 1000.0})
    recipe = Recipe(partial(torch.optim.Adam, lr=0.01), loss, loss, averaging=ExponentialAverage(0.9))
    settings = TrainerSettings(max_epochs=epochs, batch_size=4, accelerator="cpu", progress=False)
    graphs = [DATASET.graphs(split, model.cutoff) for split in ("train", "validation")]
    follow = FollowTraining(value, DATASET, trial)
    best = fit(model, *graphs, recipe, settings, seed=0, folder=folder, follow=follow)
    return model, best


def test_the_entropy_is_that_of_the_average_which_is_validated(tmp_path):
    trial = HearingTrial()
    train(tmp_path / "long", IntermediateLossEntropy(every=LONG, directions=2), LONG + 1, trial)
    ((step, value, more_is_better),) = trial.values  # the last epoch needs none
    assert (step, more_is_better) == (LONG, True)
    # A shorter training ends with the weights that were seen, if its last epoch is its best.
    model, best = train(tmp_path / "short", IntermediateValidationLoss(every=LONG + 1), LONG)
    assert best.epoch == LONG - 1
    data = batches(DATASET.graphs("train", model.cutoff), 1024)
    same = LossEntropy(directions=2, tolerance=TOLERANCE, plane_points=0, progress=False)
    assert same.entropy(model, data) == pytest.approx(value, abs=1e-9)


def test_a_model_that_has_not_learnt_reports_no_entropy(tmp_path):
    trial = HearingTrial()
    train(tmp_path, IntermediateLossEntropy(every=1, directions=1), 3, trial)
    assert trial.values == []


def test_a_search_can_end_a_training(tmp_path):
    trial = HearingTrial(give_up=2)
    with pytest.raises(GivenUpError, match="at epoch 2, validation/loss = "):
        train(tmp_path, IntermediateValidationLoss(every=1), 9, trial)
    assert [step for step, _, _ in trial.values] == [1, 2]
    assert all(not more_is_better and value > 0 for _, value, more_is_better in trial.values)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(InputError, match="every=0: give a number greater than 0"):
        IntermediateValidationLoss(every=0)
    with pytest.raises(InputError, match="directions=0"):
        IntermediateLossEntropy(every=1, directions=0)


def test_the_cheap_entropy_never_stands_where_the_full_one_does(tmp_path):
    """A run that followed the cheap one and then measured records two metrics, both better where they are higher."""
    recorded = {}

    class Recorder:
        def __call__(self, value, step, *, more_is_better, told):
            recorded[told.partition(", ")[2].partition(" = ")[0]] = more_is_better

    train(tmp_path, IntermediateLossEntropy(every=LONG, directions=1), LONG + 1, Recorder())
    assert set(recorded.values()) == {True}
    declared = {metric.name for metric in LossEntropy.metrics}
    assert LOSS_ENTROPY in declared and not declared & set(recorded)
