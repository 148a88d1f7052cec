"""Settings are checked as a whole, before anything heavy."""

import pytest
from hydra import compose, initialize_config_dir
from samples import ROOT

from mlip_sweep.config import parse
from mlip_sweep.errors import InputError


def composed(*overrides: str):
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def test_defaults_are_the_papers():
    settings = parse(composed())
    assert (settings.loss.energy_weight, settings.loss.forces_weight) == (1.0, 1000.0)
    assert (settings.trainer.gradient_clip, settings.trainer.plateau_factor) == (10.0, 0.8)
    assert settings.trainer.plateau_patience == 50
    paper = composed("measurement=paper").measurement
    assert (paper.landscape.directions, paper.landscape.points, paper.landscape.window) == (20, 81, 0.25)
    assert (paper.landscape.temperature_energy, paper.landscape.temperature_forces) == (0.004, 0.040)
    assert (paper.stability.replicas, paper.stability.duration_ps, paper.stability.temperature_K) == (30, 6.0, 1600.0)
    optimizer = composed().optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.005, 5e-7)
    swa = composed("averaging=swa", "loss=weight_cycle")
    assert swa.averaging.learning_rate == swa.loss.cycle.learning_rate == 0.001
    assert (swa.loss.cycle.energy_weight, swa.loss.cycle.forces_weight) == (1000.0, 1.0)


def test_seed_moves_model_and_order_but_not_what_a_sweep_shares():
    seeds = parse(composed("seed=7")).seeds
    assert (seeds.model, seeds.order) == (7, 7)
    assert (seeds.data, seeds.directions, seeds.velocities) == (0, 0, 0)


def test_several_objectives():
    cfg = composed("objective=[loss_entropy, rmse_forces_high_T_meV_A]")
    assert parse(cfg).objectives == ["loss_entropy", "rmse_forces_high_T_meV_A"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.batch_size=0", "trainer.batch_size=0: give a positive number"),
        ("trainer.dtype=float16", "trainer.dtype='float16': choose one of float32, float64"),
        ("trainer.accelerator=tpu", "trainer.accelerator='tpu': choose one of auto, cpu, gpu"),
        ("trainer.plateau_factor=1.5", "trainer.plateau_factor=1.5"),
        ("trainer.max_epochs=ten", "trainer.max_epochs"),
        ("+trainer.epochs=3", "epochs"),
        ("loss.forces_weight=-1", "loss.forces_weight=-1"),
        ("objective=[]", "objective is empty"),
        ("~measurement.stability", None),
        ("objective=md_survival_fraction", None),
    ],
)
def test_each_mistake_is_named(override, message):
    cfg = composed(override)
    if message is None:
        parse(cfg)
    else:
        with pytest.raises(InputError) as caught:
            parse(cfg)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_objective_needs_its_measurement():
    with pytest.raises(InputError, match=r"objective=md_survival_fraction.*`stability`"):
        parse(composed("objective=md_survival_fraction", "~measurement.stability"))
