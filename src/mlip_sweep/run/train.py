"""Third step of a run: build the potential and train it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from omegaconf import OmegaConf

from mlip_sweep import clock
from mlip_sweep.data.graphs import batches, collate
from mlip_sweep.measurement.callbacks import AfterTraining
from mlip_sweep.measurement.intermediate import FollowTraining, Trial
from mlip_sweep.metrics import wall_time
from mlip_sweep.models import checkpoint
from mlip_sweep.models.compiled import compile_potential
from mlip_sweep.models.interface import Potential
from mlip_sweep.run.outcome import Outcome
from mlip_sweep.run.plan import Data, Plan
from mlip_sweep.run.start import Fresh, Resumed
from mlip_sweep.tracking.run import RunRecord
from mlip_sweep.training.cohort import membership
from mlip_sweep.training.energy_shift import add_shift, shift_of
from mlip_sweep.training.fit import LAST, Kept, accelerator, fit
from mlip_sweep.training.metrics import (
    ENERGY_OFFSET_FITTED,
    KEPT_EPOCH,
    PARAMETERS,
    VALIDATION_LOSS,
    VALIDATION_LOSS_KEPT,
)

log = logging.getLogger(__name__)

CHOICES = "choices.yaml"  # beside the config of a model
CHECKSUM = "data_checksum.txt"  # likewise, of the data that it was trained and measured on


def train(
    plan: Plan,
    data: Data,
    start: Fresh,
    rec: RunRecord,
    folder: Path,
    *,
    name: str,
    outcome: Outcome,
    trial: Trial | None = None,
    then: Sequence[Callable[[Potential], None]] = (),
) -> Kept:
    """Build and train the potential of a plan.

    Args:
        plan: of the run.
        data: to train on.
        start: fresh, or from a checkpoint.
        rec: takes phases, curves and which weights were kept.
        folder: takes the checkpoints.
        name: of the run, for messages.
        outcome: takes the validation loss of the kept weights.
        trial: hears of intermediate values.
        then: shown the model once it carries the weights that are kept.
    """
    settings = plan.settings.trainer
    dataset = data.dataset
    with rec.phase("model"):
        model = build(plan, data)
        rec.metrics({PARAMETERS: sum(p.numel() for p in model.parameters())})
    graphs = dataset.graphs("train", model.cutoff)
    member = membership()
    if member is not None:
        model.to(accelerator(settings.accelerator))
        member.share(model, compiled=settings.compile)
    elif settings.compile:
        log.info("%s: compiling, which takes minutes the first time", name)
        with rec.phase("compile"):
            model.to(accelerator(settings.accelerator))
            seconds = compile_potential(model, collate(graphs[: settings.batch_size]), training=True)
        log.info("%s: compiled in %.0f s", name, seconds)
    resumed = f", going on from {start.source / LAST}" if isinstance(start, Resumed) else ""
    log.info("%s: training on %d frames, %d epochs%s", name, len(graphs), settings.max_epochs, resumed)
    begin = clock.now()

    def note_time(model: Potential) -> None:
        rec.metrics({wall_time("training"): clock.now() - begin})

    kept = fit(
        model,
        graphs,
        dataset.graphs("validation", model.cutoff),
        plan.recipe,
        settings,
        seed=plan.settings.seeds.order,
        folder=folder,
        logger=rec.logger,
        follow=FollowTraining(plan.intermediate, dataset, trial) if plan.intermediate else None,
        callbacks=[AfterTraining(note_time, *then)],
    )
    rec.tag("weights", f"epoch {kept.epoch} of {settings.max_epochs}, averaging {plan.averaging}")
    found = {KEPT_EPOCH: kept.epoch, VALIDATION_LOSS_KEPT: kept.validation_loss}
    rec.metrics(found | {ENERGY_OFFSET_FITTED: 1000.0 * kept.energy_offset})
    outcome.metrics[VALIDATION_LOSS] = kept.validation_loss
    return kept


def build(plan: Plan, data: Data) -> Potential:
    """The potential of a plan as its training begins.

    It has random weights, or those of the plan's start. The energies of the latter may have another zero than the new
    labels; where the loss fits their shift, it is fitted before the first step as well.

    Raises:
        InputError: the architecture does not take these values on this data set.
    """
    graphs = data.dataset.graphs("train", plan.model["cutoff"])
    settings = plan.settings.trainer
    if plan.initial_weights is None:
        seed = plan.settings.seeds.model
        return checkpoint.build(plan.model, data.dataset, graphs, data.rescaling, dtype=settings.dtype, seed=seed)
    model = plan.initial_weights.potential(settings.dtype).to(accelerator(settings.accelerator))
    log.info(
        "model.start=%s: scale and shifts are its own, not those of the group rescaling", plan.initial_weights.address
    )
    if plan.recipe.fit_energy_shift:
        device = model.rescaling.scale.device
        fitted = shift_of(model, batches(graphs, settings.max_atoms, device))
        add_shift(model, fitted)
        log.info("model.start: its energies were %.1f meV/atom off the new labels", 1000.0 * fitted.offset)
    return model


def keep_model(
    rec: RunRecord, config: str, choices: Mapping[str, str], checksum: str, folder: Path, model: Potential
) -> None:
    """Save the kept weights beside the checkpoints, and as a logged model of the run.

    Args:
        rec: of the run.
        config: of the run, as YAML.
        choices: names of the chosen configs by group; the config tells only what they hold.
        checksum: of the data.
        folder: of the run.
        model: with the weights that are kept.
    """
    place = folder / "model"
    place.mkdir(parents=True, exist_ok=True)
    checkpoint.save(model, place / "checkpoint.pt")
    (place / "config.yaml").write_text(config)
    OmegaConf.save(dict(choices), place / CHOICES)
    (place / CHECKSUM).write_text(f"{checksum}\n")
    with rec.phase("saving"):
        rec.model(place)


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Torch's number of CPU threads for the length of a run; None leaves it alone."""
    before = torch.get_num_threads()
    try:
        if n is not None:
            torch.set_num_threads(n)
        yield
    finally:
        torch.set_num_threads(before)
