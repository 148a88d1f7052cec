"""Trainings learn, keep the weights they say, and resume to the same result as if never interrupted."""

import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.trainer.connectors.callback_connector import _CallbackConnector
from samples import architectures, ethanol_dataset, main_architectures, small_model

from mlip_sweep.config import TrainerSettings
from mlip_sweep.data.datamodule import evaluation_loader, graphs_of
from mlip_sweep.errors import InputError
from mlip_sweep.models.targets import residuals
from mlip_sweep.training.averaging import ExponentialAverage, StochasticAverage
from mlip_sweep.training.fit import LAST, Recipe, fit
from mlip_sweep.training.loss import MeanSquares, weighted_loss
from mlip_sweep.training.metrics import VALIDATION_LOSS
from mlip_sweep.training.muon import MuonAndAdam
from mlip_sweep.training.sam import SAM
from mlip_sweep.training.weight_cycle import WeightCycle

EPOCHS = 8
ARCHITECTURE = pytest.param(*next(p for p in architectures()).values, marks=next(p for p in architectures()).marks)
RECIPES = {
    "none": {},
    "ema": {"averaging": lambda: ExponentialAverage(0.9)},
    "swa": {"averaging": lambda: StochasticAverage(0.5, 0.002)},
    "weight_cycle": {"cycle": lambda: WeightCycle(0.5, 0.002, energy_weight=1000.0, forces_weight=1.0)},
    "swa and weight_cycle": {
        "averaging": lambda: StochasticAverage(0.5, 0.002),
        "cycle": lambda: WeightCycle(0.5, 0.002, energy_weight=1000.0, forces_weight=1.0),
    },
    "adam": {"optimizer": lambda: partial(torch.optim.Adam, lr=0.01, fused=True)},
    "schedulefree": {"optimizer": lambda: partial(_schedulefree(), lr=0.01, warmup_steps=5)},
    "muon": {"optimizer": lambda: partial(MuonAndAdam, lr=0.01, amsgrad=True)},
    "sam": {"optimizer": lambda: partial(SAM, rho=0.05, lr=0.01, amsgrad=True, fused=True)},
}


def _schedulefree():
    return pytest.importorskip("schedulefree").AdamWScheduleFree


class LostNodeError(Exception):
    pass


class Interrupt(Callback):
    """Stop in the middle of an epoch, as a lost node would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise LostNodeError


class Watch(Callback):
    """Note what each epoch did."""

    def __init__(self) -> None:
        self.weights, self.rates, self.validation = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == 0:
            self.weights.append(pl_module.loss.weights)
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_end(self, trainer, pl_module):
        self.validation.append(float(trainer.callback_metrics[VALIDATION_LOSS]))


def settings(**changes) -> TrainerSettings:
    base = TrainerSettings(max_epochs=EPOCHS, batch_size=2, accelerator="cpu", checkpoint_every=1, progress=False)
    return replace(base, **changes)


def recipe(name: str = "none") -> Recipe:
    parts = {part: make() for part, make in RECIPES[name].items()}
    loss = weighted_loss({"energy": 1.0, "forces": 1000.0, "stress": 100.0})
    optimizer = parts.pop("optimizer", partial(torch.optim.Adam, lr=0.01, amsgrad=True, fused=True))
    return Recipe(optimizer, loss, loss, **parts)


def train(folder, name="none", architecture="nequip", callbacks=(), **changes):
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset)
    train, validation = (graphs_of(frames, model.cutoff) for frames in (dataset.train, dataset.validation))
    kept = fit(model, train, validation, recipe(name), settings(**changes), seed=0, folder=folder, callbacks=callbacks)
    return model, kept


def validation_loss(model) -> float:
    errors = MeanSquares()
    for batch in evaluation_loader(graphs_of(ethanol_dataset().validation, model.cutoff)):
        errors.add(residuals(model, batch))
    return float(errors.values["energy"] + 1000.0 * errors.values["forces"])


@pytest.mark.parametrize("architecture", main_architectures())
def test_training_lowers_the_loss(architecture, tmp_path):
    untrained = validation_loss(small_model(architecture, ethanol_dataset()))
    model, _ = train(tmp_path, architecture=architecture)
    assert not model.training
    assert validation_loss(model) < 0.5 * untrained


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
@pytest.mark.parametrize("name", RECIPES)
def test_a_resumed_training_equals_an_uninterrupted_one(name, architecture, tmp_path):
    whole, kept_whole = train(tmp_path / "whole", name, architecture)
    for epoch in (2, 5):  # before and after the stage begins
        with pytest.raises(LostNodeError):
            train(tmp_path / "broken", name, architecture, callbacks=[Interrupt(epoch)])
    resumed, kept = train(tmp_path / "broken", name, architecture)
    assert kept.epoch == kept_whole.epoch
    assert kept.validation_loss == kept_whole.validation_loss
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
@pytest.mark.parametrize("name", ["none", "swa"])
def test_a_finished_training_that_is_started_again_gives_the_same_weights(name, architecture, tmp_path):
    first, kept_first = train(tmp_path, name, architecture)
    again, kept = train(tmp_path, name, architecture)
    assert kept.epoch == kept_first.epoch
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
@pytest.mark.parametrize("name", RECIPES)
def test_the_kept_weights_are_those_that_were_scored(name, architecture, tmp_path):
    watch = Watch()
    model, kept = train(tmp_path, name, architecture, callbacks=[watch])
    staged = name in ("swa", "weight_cycle", "swa and weight_cycle")
    late = watch.validation[EPOCHS // 2 if staged else 0 :]
    assert kept.validation_loss == min(late)
    assert kept.epoch == watch.validation.index(kept.validation_loss)
    assert validation_loss(model) == pytest.approx(kept.validation_loss, rel=1e-9)


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_a_cosine_rises_and_falls_leaves_a_stage_its_rate_and_is_resumed(architecture, tmp_path):
    schedule = {"schedule": "cosine", "warmup_epochs": 2}
    falling = [0.01 + 0.99 * (1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]  # after two of eight epochs
    expected = 0.01 * np.array([1 / 3, 2 / 3, *falling])
    watch, staged = Watch(), Watch()
    whole, _ = train(tmp_path / "whole", architecture=architecture, callbacks=[watch], **schedule)
    np.testing.assert_allclose(watch.rates, expected)
    train(tmp_path / "staged", "weight_cycle", architecture, callbacks=[staged], **schedule)
    np.testing.assert_allclose(staged.rates, [*expected[:4], *[0.002] * 4])
    with pytest.raises(LostNodeError):
        train(tmp_path / "broken", architecture=architecture, callbacks=[Interrupt(3)], **schedule)
    resumed, _ = train(tmp_path / "broken", architecture=architecture, **schedule)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_weight_cycle_changes_weights_and_rate_at_its_epoch(architecture, tmp_path):
    watch = Watch()
    train(tmp_path, "weight_cycle", architecture, callbacks=[watch])
    forces_first = {"energy": 1.0, "forces": 1000.0, "stress": 100.0}
    energy_then = {"energy": 1000.0, "forces": 1.0, "stress": 0.0}
    assert watch.weights == [forces_first] * 4 + [energy_then] * 4
    assert watch.rates == [0.01] * 4 + [0.002] * 4


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_averages_are_the_means_they_claim_to_be(architecture, tmp_path):
    class Collect(Callback):
        """The raw weights at the end of every epoch; runs after the average was put away."""

        def __init__(self) -> None:
            self.seen = []

        def on_train_epoch_end(self, trainer, pl_module):
            self.seen.append([p.detach().clone() for p in pl_module.parameters()])

    collect = Collect()
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset)
    averaging = StochasticAverage(0.5, None)
    graphs = graphs_of(dataset.train, model.cutoff)
    chosen = replace(recipe(), averaging=averaging)
    fit(model, graphs, graphs, chosen, settings(), seed=0, folder=tmp_path, callbacks=[collect])
    expected = [torch.stack(values).mean(0) for values in zip(*collect.seen[EPOCHS // 2 :], strict=True)]
    assert averaging.updates == EPOCHS // 2
    for value, average in zip(expected, averaging.state_dict()["average"], strict=True):
        torch.testing.assert_close(average, value)


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
@pytest.mark.parametrize("name", ["ema", "swa"])
@pytest.mark.parametrize("first", [False, True], ids=["checkpoint last", "checkpoint first"])
def test_a_checkpoint_holds_the_raw_weights_and_the_average_apart(name, architecture, first, tmp_path, monkeypatch):
    """One that was written while the average stood in for the raw weights would go on from the average."""

    class Collect(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            self.raw = [p.detach().clone() for p in pl_module.parameters()]

    if first:  # Lightning runs it last
        order = _CallbackConnector._reorder_callbacks
        checkpoint_first = staticmethod(lambda callbacks: sorted(order(callbacks), key=is_no_checkpoint))
        monkeypatch.setattr(_CallbackConnector, "_reorder_callbacks", checkpoint_first)
    collect = Collect()
    model, _ = train(tmp_path, name, architecture, callbacks=[collect])
    saved = torch.load(tmp_path / LAST, weights_only=True)
    weights = [saved["state_dict"][key] for key, _ in model.named_parameters(prefix="model")]
    (average,) = (state["average"] for state in saved["callbacks"].values() if "average" in state)
    assert all(torch.equal(one, other) for one, other in zip(weights, collect.raw, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(weights, average, strict=True))
    kept = saved["callbacks"]["KeepBest"]
    assert kept["epoch"] == EPOCHS - 1  # so that what is kept is the average of the end
    assert all(torch.equal(one, other) for one, other in zip(kept["weights"], average, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), average, strict=True))


def is_no_checkpoint(callback):
    return not isinstance(callback, Checkpoint)


def test_exponential_average_follows_its_formula():
    model = torch.nn.Linear(1, 1, bias=False)
    averaging = ExponentialAverage(0.5)
    values, expected = [1.0, 3.0, 7.0, 2.0], None
    for n, value in enumerate(values):
        torch.nn.init.constant_(model.weight, value)
        averaging.on_train_batch_end(None, model, None, None, n)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert averaging.state_dict()["average"][0].item() == pytest.approx(expected)


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_early_stopping_waits_as_long_as_asked_and_again_in_a_new_stage(architecture, tmp_path):
    dataset = ethanol_dataset()

    def epochs(chosen: Recipe, folder: str) -> int:
        watch = Watch()
        model = small_model(architecture, dataset)
        graphs = graphs_of(dataset.train, model.cutoff)
        stopping = settings(early_stopping_patience=5)
        fit(model, graphs, graphs, chosen, stopping, seed=0, folder=tmp_path / folder, callbacks=[watch])
        return len(watch.validation)

    still = replace(recipe(), optimizer=partial(torch.optim.SGD, lr=0.0))  # never better than its first epoch
    assert epochs(still, "plain") == 6
    assert (
        epochs(replace(still, cycle=WeightCycle(0.5, None, energy_weight=1.0, forces_weight=1.0)), "staged") == EPOCHS
    )


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_a_stage_without_an_epoch_is_refused(architecture, tmp_path):
    with pytest.raises(InputError, match=r"start=0\.5: that is epoch .*max_epochs=1"):
        train(tmp_path, "swa", architecture, max_epochs=1)


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_ctrl_c_stays_a_keyboard_interrupt(architecture, tmp_path):
    class CtrlC(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, architecture=architecture, callbacks=[CtrlC()])
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_a_training_that_diverges_says_so(architecture, tmp_path):
    dataset = ethanol_dataset()
    model = small_model(architecture, dataset)
    graphs = graphs_of(dataset.train, model.cutoff)
    wild = replace(recipe(), optimizer=partial(torch.optim.SGD, lr=1e30))
    with pytest.raises(InputError, match=r"diverged.*optimizer\.lr"):
        fit(model, graphs, graphs, wild, settings(max_epochs=2, gradient_clip=1e30), seed=0, folder=tmp_path)


@pytest.mark.parametrize("architecture", [ARCHITECTURE])
def test_a_task_of_a_slurm_job_trains_as_anywhere_and_leaves_its_signals_to_the_launcher(
    architecture, tmp_path, monkeypatch
):
    job = {"JOB_ID": 7, "JOB_NAME": "sweep", "NTASKS": 4, "NTASKS_PER_NODE": 4, "PROCID": 3, "LOCALID": 3, "NODEID": 0}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    requeue = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in requeue]
    during = []

    class Look(Callback):
        def on_train_start(self, trainer, pl_module):
            during.extend(signal.getsignal(number) for number in requeue)
            assert trainer.world_size == 1
            assert trainer.is_global_zero

    train(tmp_path, architecture=architecture, callbacks=[Look()], max_epochs=1)
    assert during == before
    assert (tmp_path / "last.ckpt").is_file()
