"""Trainings that go in step: each member's numbers are those that it has alone, and what happens to one is its own."""

import dataclasses
import os
import signal
from functools import partial

import pytest
import torch
from pytorch_lightning.callbacks import Callback
from samples import copper_frame, ethanol_dataset, main_architectures, small_model
from test_fit import RECIPES, recipe, settings

from mlip_sweep import clock
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.graphs import collate
from mlip_sweep.measurement.inference_time import INFERENCE_TIME, InferenceTime
from mlip_sweep.models import rescaling
from mlip_sweep.models.mapped import derive_together
from mlip_sweep.models.targets import residuals
from mlip_sweep.training import cohort
from mlip_sweep.training.cohort import Cohort, membership
from mlip_sweep.training.fit import fit

DATASET = ethanol_dataset()


def train(
    folder,
    seed,
    name="none",
    architecture="nequip",
    callbacks=(),
    dtype="float64",
    rescale=rescaling.forces_rms,
    dataset=DATASET,
    **changes,
):
    """A whole training of one member, or of a run alone."""
    model = small_model(architecture, dataset, seed=seed, dtype=dtype, rescale=rescale)
    if (member := membership()) is not None:
        member.share(model)
    graphs = [dataset.graphs(split, model.cutoff) for split in ("train", "validation")]
    chosen = settings(resume=False, **changes)
    kept = fit(model, *graphs, recipe(name), chosen, seed=0, folder=folder, callbacks=callbacks)
    return model, kept


def together(works):
    members = Cohort(works).run()
    return [member.error or member.result for member in members]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", main_architectures())
def test_a_member_equals_the_run_alone_whatever_the_others_do(architecture, tmp_path):
    """Other seeds, optimisers, averagings, weight cycles, rescalings and numbers of epochs in one cohort."""
    # What one architecture shows of all recipes, the other need not show again: each step of MACE costs three.
    names = list(RECIPES) if architecture != "mace" else ["sam", "swa and weight_cycle"]
    plans = [{"seed": place, "name": name} for place, name in enumerate(names)]
    plans += [{"seed": 9, "max_epochs": 3}, {"seed": 8, "rescale": rescaling.none, "max_epochs": 13}]  # 52 steps
    works = [
        partial(train, tmp_path / f"member{place}", architecture=architecture, **plan)
        for place, plan in enumerate(plans)
    ]
    for place, (plan, (model, kept)) in enumerate(zip(plans, together(works), strict=True)):
        alone, kept_alone = train(tmp_path / f"alone{place}", architecture=architecture, **plan)
        assert kept.epoch == kept_alone.epoch
        assert kept.validation_loss == pytest.approx(kept_alone.validation_loss, rel=1e-9)
        for ours, its in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-9, atol=1e-10)


def test_members_that_learn_stresses_equal_the_runs_alone(tmp_path):
    """Some frames have a label of it and some have none, and they count by weights of their own."""
    frame = copper_frame()
    frames = [
        dataclasses.replace(
            frame,
            positions=frame.positions * scale,
            cell=frame.cell * scale,
            stress=frame.stress if labelled else None,
            weight=scale if labelled else 1.0,
        )
        for scale, labelled in [(0.97, True), (0.98, False), (0.99, True), (1.0, False), (1.01, False), (1.02, True)]
    ]
    copper = Dataset("copper", frames, [frame], {}, frames)
    works = [partial(train, tmp_path / f"member{seed}", seed, dataset=copper, batch_size=2) for seed in range(3)]
    models = [model for model, _ in together(works)]
    for seed, model in enumerate(models):
        alone, _ = train(tmp_path / f"alone{seed}", seed, dataset=copper, batch_size=2)
        for ours, its in zip(model.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-9, atol=1e-10)


def test_single_precision_goes_the_same_way(tmp_path):
    """A fused optimiser goes through gradients as they lie in memory: a layout of their own would go unnoticed."""
    works = [partial(train, tmp_path / str(seed), seed, dtype="float32") for seed in range(2)]
    for seed, (_, kept) in enumerate(together(works)):
        _, alone = train(tmp_path / f"alone{seed}", seed, dtype="float32")
        assert kept.validation_loss == pytest.approx(alone.validation_loss, rel=1e-3)


class FailsError(Exception):
    pass


class Fails(Callback):
    """Fails in its second epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise FailsError


def test_a_member_that_fails_leaves_the_others_as_they_were(tmp_path):
    works = [partial(train, tmp_path / "a", 0, callbacks=[Fails()]), partial(train, tmp_path / "b", 1)]
    failed, (_, kept) = together(works)
    assert isinstance(failed, FailsError)
    assert kept.validation_loss == pytest.approx(train(tmp_path / "alone", 1)[1].validation_loss, rel=1e-9)


def test_members_with_other_batches_or_networks_are_served_too():
    """They ask for different things, and each hears its own."""

    def work(width, frames):
        model = small_model("nequip", DATASET, num_features=width).train()
        membership().share(model)
        batch = collate(DATASET.graphs("train", model.cutoff)[frames])
        parameters = list(model.parameters())
        loss = residuals(model, batch)["forces"].square().mean()
        model.compiled.backward(loss, parameters)
        shared = [p.grad.clone() for p in parameters]
        model.compiled = None
        model.zero_grad()
        residuals(model, batch)["forces"].square().mean().backward(inputs=parameters)
        for ours, own in zip(shared, parameters, strict=True):
            torch.testing.assert_close(ours, own.grad, rtol=1e-9, atol=1e-12)
        return "done"

    works = [partial(work, *of) for of in ((4, slice(0, 2)), (4, slice(2, 5)), (6, slice(0, 2)), (4, slice(0, 2)))]
    assert together(works) == ["done"] * 4


def test_a_member_evaluates_its_model_alone_where_its_time_is_measured():
    """It waits for nobody, and its potential stays shared afterwards."""

    def work(seed):
        model = small_model("nequip", DATASET, seed=seed).eval()
        membership().share(model)
        shared, batch = model.compiled, collate(DATASET.graphs("train", model.cutoff)[:2])
        together = model(batch)
        waited = membership().clock.waited
        with cohort.alone(model):
            by_itself = model(batch)
        report = InferenceTime(max_atoms=18, repeats=3)(model, DATASET)
        assert membership().clock.waited == waited > 0.0
        assert model.compiled is shared
        torch.testing.assert_close(by_itself.forces, together.forces, rtol=1e-9, atol=1e-12)
        return report.metrics[INFERENCE_TIME]

    assert all(time > 0.0 for time in together([partial(work, seed) for seed in range(3)]))


@pytest.mark.parametrize("fails_in", ["derive_together", "grad"])
def test_members_are_split_where_memory_does_not_suffice(fails_in, tmp_path, monkeypatch, caplog):
    """More than two at once are refused as torch refuses them, in the forward or in the backward pass."""
    sizes = []

    def short_of_memory(real, size_of):
        def limited(*args, **kwargs):
            sizes.append(size_of(*args))
            if sizes[-1] > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(*args, **kwargs)

        return limited

    if fails_in == "grad":
        real = torch.autograd.grad
        monkeypatch.setattr(
            torch.autograd,
            "grad",
            short_of_memory(
                real, lambda outputs, *_: len(outputs[0]) if isinstance(outputs, tuple) and outputs[0].dim() == 2 else 0
            ),
        )
    else:
        monkeypatch.setattr(cohort, fails_in, short_of_memory(cohort.derive_together, lambda rows, *_: len(rows)))
    works = [partial(train, tmp_path / str(seed), seed, max_epochs=2) for seed in range(5)]
    results = together(works)
    monkeypatch.undo()
    assert max(sizes) == 5
    assert sizes.count(5) == 1
    assert "memory does not suffice for 5 at once: from here on 2" in caplog.text
    for seed, (_, kept) in enumerate(results):
        alone = train(tmp_path / f"alone{seed}", seed, max_epochs=2)[1]
        assert kept.validation_loss == pytest.approx(alone.validation_loss, rel=1e-9)


class Interrupts(Callback):
    """Presses Ctrl-C in its third epoch, when a member in step has ended its first one."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_every_member(tmp_path):
    works = [partial(train, tmp_path / "a", 0, callbacks=[Interrupts()]), partial(train, tmp_path / "b", 1)]
    both = Cohort(works)
    with pytest.raises(KeyboardInterrupt):
        both.run()
    assert [type(member.error) for member in both.members] == [KeyboardInterrupt] * 2
    assert all((tmp_path / name / "last.ckpt").is_file() for name in "ab")


def test_times_of_members_are_those_of_their_own_work():
    """Only one has the turn at a time, and what is shared is shared out: the times add up to no more than all took."""

    def work(seed):
        begin = clock.now()
        model = small_model("nequip", DATASET, seed=seed)
        membership().share(model)
        for _ in range(3):
            model(collate(DATASET.graphs("train", model.cutoff)))
        return clock.now() - begin

    begin = clock.now()
    members = Cohort([partial(work, seed) for seed in range(4)]).run()
    took = clock.now() - begin
    seconds = [member.result for member in members]
    assert all(0.0 < one < took for one in seconds)
    assert sum(seconds) <= took


def test_the_state_of_the_process_is_each_member_s_own():
    state = {"owner": None}

    def surroundings():
        owner = state["owner"]
        return lambda: state.update(owner=owner)

    def work(name):
        state["owner"] = name
        model = small_model("nequip", DATASET)
        membership().share(model)
        for _ in range(3):
            model(collate(DATASET.graphs("train", model.cutoff)[:1]))
            assert state["owner"] == name
        return name

    members = Cohort([partial(work, name) for name in "abc"], surroundings).run()
    assert [member.result for member in members] == ["a", "b", "c"]


@pytest.mark.parametrize(("cost", "together_then"), [(1000, 4), (100, 3), (0, 2)])
def test_smaller_geometries_are_filled_up_where_that_pays(cost, together_then, monkeypatch):
    """Of 4, 2, 2 and 1 molecules, each in its numbers as if it were alone."""
    counts = []

    def derive(evaluations, backend=None):
        counts.append(len(evaluations))
        return derive_together(evaluations, backend)

    def work(seed, n_frames):
        model = small_model("nequip", DATASET, seed=seed).eval()
        membership().share(model)
        geometry = collate(DATASET.graphs("train", model.cutoff)[:n_frames]).geometry()
        for ours, own in zip(model.compiled(model.states(), geometry), model.derive({}, geometry), strict=True):
            torch.testing.assert_close(ours, own, rtol=1e-9, atol=1e-12)
        return "done"

    monkeypatch.setattr(cohort, "derive_together", derive)
    monkeypatch.setattr(cohort, "COST_OF_CALLS", cost)
    monkeypatch.setattr(cohort, "FILLED_UP", 0.15)
    assert together([partial(work, seed, n) for seed, n in enumerate((4, 2, 1, 2))]) == ["done"] * 4
    assert counts == [together_then]  # who is left is served alone
