"""Settings are checked as a whole, before anything heavy, and a mistake is told in a line with its place."""

import functools

import pytest
from hydra import compose, initialize_config_dir
from samples import ROOT

from mlip_sweep.config import TrainerSettings, parse
from mlip_sweep.data import molecules
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.chosen import measurements_of, shipped_measurements
from mlip_sweep.run.plan import make_plan
from mlip_sweep.training.loss import fits_energy_shift, losses_of


def composed(*overrides: str):
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        return compose("run", overrides=list(overrides))


def test_defaults_are_the_papers_but_for_the_loss_which_has_a_choice_of_its_own():
    settings = parse(composed())
    paper_loss = composed("loss=paper").loss
    assert [loss.weights for loss in losses_of(paper_loss)] == [{"energy": 1.0, "forces": 1000.0, "stress": 0.0}] * 2
    assert fits_energy_shift(composed().loss) and not fits_energy_shift(paper_loss)
    assert (settings.trainer.gradient_clip, settings.trainer.plateau_factor) == (10.0, 0.8)
    assert settings.trainer.plateau_patience == 50
    paper = composed("measurement=paper").measurement
    assert (paper.landscape.directions, paper.landscape.points, paper.landscape.window) == (20, 81, 0.25)
    assert (paper.landscape.temperature_energy, paper.landscape.temperature_forces) == (0.004, 0.040)
    assert (paper.stability.replicas, paper.stability.duration_ps, paper.stability.temperature_K) == (30, 6.0, 1600.0)
    optimizer = composed().optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (0.005, 5e-7)
    swa = composed("averaging=swa", "loss=paper_weight_cycle")
    cycle = composed("loss=weight_cycle").loss.cycle
    assert {**cycle, "stress_weight": 0.0} == swa.loss.cycle
    assert swa.averaging.learning_rate == swa.loss.cycle.learning_rate == 0.001
    assert (swa.loss.cycle.energy_weight, swa.loss.cycle.forces_weight) == (1000.0, 1.0)


def test_a_setting_has_one_default():
    """`measurement=paper` and the classes' own defaults say the same, so that neither can drift from the other."""
    for name, measurement in measurements_of(composed("measurement=paper", "trainer.progress=true")).items():
        assert measurement == shipped_measurements()[name](), name
    assert parse(composed("trainer.threads=null")).trainer == TrainerSettings()


def test_seed_moves_model_and_order_but_not_what_a_sweep_shares():
    seeds = parse(composed("seed=7")).seeds
    assert (seeds.model, seeds.order) == (7, 7)
    assert (seeds.data, seeds.directions, seeds.velocities) == (0, 0, 0)


def test_several_objectives():
    cfg = composed("objective=[loss_entropy, rmse_forces_high_T_meV_A]")
    assert parse(cfg).objectives == ("loss_entropy", "rmse_forces_high_T_meV_A")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.batch_size=0", "trainer.batch_size=0: give a number greater than 0"),
        ("trainer.dtype=float16", "trainer.dtype='float16': choose 'float32' or 'float64'"),
        ("trainer.accelerator=tpu", "trainer.accelerator='tpu': choose 'auto', 'cpu' or 'gpu'"),
        ("trainer.plateau_factor=1.5", "trainer.plateau_factor=1.5: give a number less than 1"),
        ("trainer.max_epochs=ten", "trainer.max_epochs='ten': give an integer"),
        ("trainer.threads=0", "trainer.threads=0: give a number greater than 0"),
        ("trainer.gradient_clip=nan", "trainer.gradient_clip=nan: give a finite number"),
        ("trainer.batch_size=???", "trainer.batch_size=???: give a value"),
        ("+trainer.epochs=3", "trainer.epochs=3: there is no such setting; there are max_epochs, "),
        ("seed=-1", "seed=-1: give a number greater than or equal to 0"),
        ("seeds.order=-1", "seeds.order=-1"),
        ("seeds.data=4294967296", "seeds.data=4294967296: give a number less than 4294967296"),
        ("objective=[]", "objective is empty"),
        ("objective=[loss_entropy,loss_entropy]", "name each metric once"),
        ("resume=x", "resume='x': give a boolean"),
        ("trainer.max_epochs=1e20", "trainer.max_epochs=1e+20: give an integer"),
        ("trainer.max_epochs='1e20'", "trainer.max_epochs='1e20': give an integer"),
        ("trainer.threads=100000", "trainer.threads=100000: give a number less than or equal to 1024"),
        ("trainer.plateau_patience=-1", "trainer.plateau_patience=-1"),
        ("trainer.early_stopping_patience=-1", "trainer.early_stopping_patience=-1"),
    ],
)
def test_each_mistake_in_plain_settings_is_named(override, message):
    with pytest.raises(InputError) as caught:
        parse(composed(override))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.forces_weight=-1", "loss.forces_weight=-1"),
        ("loss.validation.energy_weight=x", "loss.validation.energy_weight=x"),
        ("+loss.charge_weight=1", "loss: give one weight each for energy, forces, stress"),
        ("+loss.weights=1", "loss.weights: there is no such setting"),
        ("measurement.landscape.alpha=2", "measurement.landscape.alpha=2: give a number less than or equal to 1"),
        ("measurement.landscape.directions=x", "measurement.landscape.directions='x': give an integer"),
        ("measurement.landscape.directions=2.5", "measurement.landscape.directions=2.5: give an integer"),
        ("measurement.landscape.temperature_forces=-0.04", "measurement.landscape.temperature_forces=-0.04"),
        ("measurement.landscape.temperature_energy=0", "measurement.landscape.temperature_energy=0"),
        ("measurement.landscape.window=nan", "measurement.landscape.window=nan: give a finite number"),
        ("measurement.landscape.plane_points=-1", "measurement.landscape.plane_points=-1"),
        ("measurement.landscape.n_bootstrap=x", "measurement.landscape.n_bootstrap='x'"),
        ("measurement.landscape.seed=x", "measurement.landscape.seed='x'"),
        ("measurement.landscape.max_atoms=0", "measurement.landscape.max_atoms=0"),
        ("+measurement.landscape.direction=3", "measurement.landscape.direction=3: there is no such setting"),
        ("measurement.stability.control_replicas=x", "measurement.stability.control_replicas='x'"),
        ("measurement.stability.trajectory_every=1.5", "measurement.stability.trajectory_every=1.5"),
        ("measurement.stability.criteria=[bind]", "measurement.stability.criteria='bind': choose one of auto, bond"),
        ("measurement.inference_time.repeats=1", "measurement.inference_time.repeats=1"),
        ("measurement.accuracy._target_=pathlib.Path", "measurement.accuracy"),
        ("averaging=swa averaging.start=2", "averaging.start=2: give a fraction"),
        ("averaging=swa averaging.learning_rate=x", "averaging.learning_rate=x: give a positive number"),
        ("averaging=swa averaging.learning_rate=-1", "averaging.learning_rate=-1: give a positive number"),
        ("averaging=swa trainer.max_epochs=1", "averaging.start=0.75: that is epoch 1 of trainer.max_epochs=1"),
        ("averaging=ema averaging.decay=1", "averaging.decay=1: give a number between 0 and 1"),
        ("averaging=ema averaging._target_=torch.optim.Adam", "averaging: "),
        ("loss=weight_cycle trainer.max_epochs=3", "loss.cycle.start=0.75: that is epoch 3"),
        ("optimizer.lr=0", "optimizer.lr=0: give a number greater than 0"),
        ("optimizer.lr=x", "optimizer.lr='x': give a number greater than 0"),
        ("optimizer=sam optimizer.lr=-1", "optimizer.lr=-1: give a number greater than 0"),
        ("optimizer._target_=torch.optim.lr_scheduler.StepLR", "optimizer: "),
        ("+rescaling.scale=2", "rescaling: mlip_sweep.models.rescaling.forces_rms does not take scale"),
        ("pruning=validation_loss pruning.every=100", "pruning.every=100: trainer.max_epochs=100 leaves no value"),
        ("measurement.stability.criteria=[]", "measurement.stability.criteria=[]: nothing would count as a failure"),
        ("measurement.stability.duration_ps=1e300", "measurement.stability.duration_ps=1e+300: more than"),
        ("+model.dtype=float64", "model.dtype='float64': there is no such setting"),
        ("loss=weight_cycle loss.cycle.energy_weight=x", "loss.cycle.energy_weight=x"),
        ("loss=weight_cycle loss.cycle.learning_rate=-1", "loss.cycle.learning_rate=-1: give a positive number"),
        ("pruning=loss_entropy pruning.every=0", "pruning.every=0"),
        ("pruning=loss_entropy pruning.directions=0", "pruning.directions=0"),
        ("+dataset.strides=3", "dataset.strides: there is no such setting; there are "),
        ("rescaling._target_=mlip_sweep.models.rescaling.nothing", "rescaling"),
        ("objective=md_nope", "objective=md_nope: no measurement of this run gives it"),
        ("objective=train/loss", "objective=train/loss: no measurement of this run gives it"),
        ("objective=foo", "objective=foo: no measurement of this run gives it"),
        ("objective=md_survival_fraction ~measurement.stability", "`stability`"),
    ],
)
def test_each_mistake_in_what_is_made_is_named_before_data_is_made(override, message, monkeypatch):
    @functools.wraps(molecules.molecule_xtb)
    def make_data(*args, **kwargs):
        pytest.fail("data was made")

    monkeypatch.setattr("mlip_sweep.data.molecules.molecule_xtb", make_data)
    with pytest.raises(InputError) as caught:
        make_plan(composed(*override.split()))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_measurement_that_is_left_out_leaves_the_others():
    others = [name for name in measurements_of(composed()) if name != "stability"]
    assert others[:2] == ["landscape", "accuracy"]
    assert list(measurements_of(composed("~measurement.stability"))) == others
    assert list(measurements_of(composed("measurement.stability=null"))) == others
