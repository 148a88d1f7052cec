"""Values of a training under way are those of the weights that are validated, and a search may end it."""

from functools import partial

import pytest
import torch
from samples import ethanol_dataset, installed, small_model

from mlip_sweep import keys
from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import graphs_of
from mlip_sweep.data.graphs import batches
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.intermediate import WatchLossEntropy, WatchValidationLoss
from mlip_sweep.measurement.landscape.loss_entropy import quick_entropy
from mlip_sweep.training.averaging import ExponentialAverage
from mlip_sweep.training.fit import Recipe, fit
from mlip_sweep.training.loss import LossWeights

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")
DATASET = ethanol_dataset()


class GivenUpError(Exception):
    """What a search raises."""


class Heard:
    """A search that gives up at its n-th value."""

    def __init__(self, give_up: int = 99) -> None:
        self.values: list[tuple[int, float, bool]] = []
        self.give_up = give_up

    def __call__(self, value, step, *, more_is_better, told):
        self.values.append((step, value, more_is_better))
        if len(self.values) == self.give_up:
            raise GivenUpError(told)


def train(folder, watch, epochs):
    model = small_model("nequip", DATASET)
    graphs = [graphs_of(frames, model.cutoff) for frames in (DATASET.train, DATASET.validation)]
    weights = LossWeights(1.0, 1000.0)
    recipe = Recipe(partial(torch.optim.Adam, lr=0.01), weights, weights, averaging=ExponentialAverage(0.9))
    settings = TrainerSettings(max_epochs=epochs, batch_size=4, accelerator="cpu", progress=False)
    kept = fit(model, *graphs, recipe, settings, seed=0, folder=folder, watch=watch(cutoff=model.cutoff))
    return model, kept


def test_the_entropy_is_that_of_the_average_which_is_validated(tmp_path):
    heard = Heard()
    train(tmp_path / "long", partial(WatchLossEntropy, DATASET, every=2, directions=2, search=heard), 4)
    ((step, value, more_is_better),) = heard.values  # the last epoch is not watched
    assert (step, more_is_better) == (2, True)
    # A training of two epochs ends with the weights that were watched, if the second epoch is its best.
    model, kept = train(tmp_path / "short", partial(WatchValidationLoss, DATASET, every=9), 2)
    assert kept.epoch == 1
    data = list(batches(graphs_of(DATASET.train, model.cutoff), 1024))
    assert quick_entropy(model, data, directions=2) == pytest.approx(value, abs=1e-9)


def test_a_search_can_end_a_training(tmp_path):
    heard = Heard(give_up=2)
    with pytest.raises(GivenUpError, match="at epoch 2, validation/loss = "):
        train(tmp_path, partial(WatchValidationLoss, DATASET, every=1, search=heard), 9)
    assert [step for step, _, _ in heard.values] == [1, 2]
    assert all(not more_is_better and value > 0 for _, value, more_is_better in heard.values)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(InputError, match=r"pruning\.every=0"):
        WatchValidationLoss(DATASET, 5.0, every=0)
    with pytest.raises(InputError, match=r"pruning\.directions=0"):
        WatchLossEntropy(DATASET, 5.0, every=1, directions=0)


def test_its_name_says_that_it_is_the_cheap_one():
    assert WatchLossEntropy.key != keys.LOSS_ENTROPY
    assert keys.more_is_better(WatchLossEntropy.key)
