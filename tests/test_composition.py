"""A composed config is whole and finite, and names only code that it may name: seen before any of that is imported."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf, open_dict
from samples import ROOT

from mlip_sweep.composition import GROUPS
from mlip_sweep.config import parse
from mlip_sweep.errors import InputError
from mlip_sweep.models import checkpoint
from mlip_sweep.run.plan import make_plan
from mlip_sweep.training.averaging import StochasticAverage


class Mine(StochasticAverage):
    """Of a user's package, as far as a config knows."""


@pytest.fixture(scope="module")
def sound():
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        return compose("run", ["averaging=swa", "loss=weight_cycle", "pruning=validation_loss"])


@pytest.fixture
def changed(sound):
    """A function from keys and values to a sound config with those in it."""

    def change(**values):
        cfg = sound.copy()
        with open_dict(cfg):
            for key, value in values.items():
                OmegaConf.update(cfg, key.replace("__", "."), value, force_add=True)
        return cfg

    return change


def told(cfg, check=parse) -> str:
    with pytest.raises(InputError) as caught:
        check(cfg)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_values_are_named_all_of_them_wherever_they_stand(changed):
    cfg = changed(
        seed="???", optimizer__lr="???", dataset__noise__energy_sigma="???", measurement__landscape__alpha="???"
    )
    missing = ["dataset.noise.energy_sigma", "optimizer.lr", "measurement.landscape.alpha", "seed"]
    assert told(cfg) == ", ".join(f"{key}=???" for key in missing) + ": give a value"


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_removed_or_null_is_named(changed, sound, group):
    assert told(changed(**{group: None})).startswith(f"{group}=None: choose one of conf/{group}")
    without = OmegaConf.masked_copy(sound, [key for key in sound if key != group])
    assert told(without).startswith(f"{group}: choose one of conf/{group}")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**63, -(10**30)])
@pytest.mark.parametrize(
    "place",
    [
        *(
            "trainer.gradient_clip",
            "optimizer.weight_decay",
            "loss.validation.energy_weight",
            "loss.cycle.learning_rate",
        ),
        *("averaging.start", "model.cutoff", "dataset.temperature", "dataset.noise.energy_sigma", "seed"),
        "dataset.test_temperatures",
    ],
)
def test_numbers_are_finite_and_fit_into_64_bits(changed, place, value):
    inside = [300, value] if place == "dataset.test_temperatures" else value
    where = f"{place}.1" if place == "dataset.test_temperatures" else place
    assert told(changed(**{place: inside})).startswith(f"{where}={value}: give a ")


@pytest.mark.parametrize("key", ["foo.bar", "max_epochs", "lr"])
def test_a_key_that_nothing_reads_is_named(changed, key):
    line = told(changed(**{key: 1}))
    assert line.startswith(f"{key.partition('.')[0]}=") and "there is no such setting; there are dataset, model" in line


@pytest.mark.parametrize("key", ["tracking.register", "tracking.experiment"])
@pytest.mark.parametrize("name", ["a/b", "a:b", "a@b", "", " ", "a ", ".", "..", "../a", "a\\b", "a\nb", "a" * 201])
def test_names_are_refused_that_mlflow_or_a_folder_would_refuse(changed, key, name):
    assert told(changed(**{key: name})).startswith(f"{key}={name!r}: give a name without")


@pytest.mark.parametrize("name", ["a", "3BPA at 300 K", "λ.2", "v1_l3-ema (new), 90%"])
def test_other_names_serve(changed, name):
    tracking = parse(changed(tracking__register=name, tracking__experiment=name)).tracking
    assert tracking.register == tracking.experiment == name


@pytest.mark.parametrize("target", ["pathlib.Path.write_text", "os.system", "torch.load", "hydra.utils.call", "eval"])
@pytest.mark.parametrize(
    "place", ["optimizer", "dataset", "model", "averaging", "measurement.accuracy", "dataset.noise", "loss.cycle"]
)
def test_a_target_of_another_package_is_refused_before_it_is_imported(changed, place, target):
    cfg = changed(**{f"{place}._target_": target})
    own = target.partition(".")[0]
    line = told(cfg)
    assert line.startswith(
        f"{place}._target_={target}: a config may name code of mlip_sweep, torch.optim, schedulefree"
    )
    assert line.endswith(f"add packages=[{own}]")


def test_a_target_is_seen_in_lists_and_behind_interpolations(changed):
    assert told(changed(dataset__repeat=[[{"_target_": "os.system"}]])).startswith(
        "dataset.repeat.0.0._target_=os.system"
    )
    assert told(changed(optimizer___target_="${tracking.experiment}", tracking__experiment="os.system")).startswith(
        "optimizer._target_=os.system"
    )


@pytest.mark.parametrize(
    "target",
    [
        "mlip_sweep.run.start.shutil.rmtree",
        "torch.optim.adam.torch.load",
        "mlip_sweep.config.instantiate",
        "mlip_sweep.run",
    ],
)
@pytest.mark.parametrize("place", ["optimizer", "dataset", "model", "rescaling", "measurement.accuracy"])
def test_a_target_is_its_packages_own(changed, place, target):
    line = told(changed(**{f"{place}._target_": target}), make_plan)
    assert line.startswith(f"{place}._target_={target}: no class or function of ")


def test_a_package_that_is_named_may_be_used(changed):
    mine = {"averaging._target_": "test_composition.Mine"}
    assert told(changed(**mine)).endswith("add packages=[test_composition]")
    plan = make_plan(changed(**mine, packages=["test_composition"]))
    assert type(plan.recipe.averaging).__name__ == Mine.__name__
    assert plan.checksum == make_plan(changed(**mine, packages=["test_composition", "other"])).checksum
    assert told(changed(packages="os.path")).startswith("packages=os.path: give a list of names")


def test_a_model_file_names_a_potential_or_nothing_is_made():
    with pytest.raises(InputError, match=r"model\._target_=pathlib\.Path: not a .*Potential"):
        checkpoint.architecture_of("pathlib.Path")
