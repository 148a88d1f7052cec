"""A measurement that this program has never heard of: one file and one entry, and everything knows its metric."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import open_dict
from rich.console import Console
from samples import installed

from mlip_sweep.comparison.compare import compare
from mlip_sweep.comparison.runs import declared_metrics
from mlip_sweep.errors import InputError
from mlip_sweep.metrics import more_is_better, objective_metric
from mlip_sweep.multirun.direction import check_direction
from mlip_sweep.run.plan import make_plan
from mlip_sweep.run.run import run
from mlip_sweep.tracking.read import stored_runs
from optuna_async.config import TARGET

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")
METRIC = "force_on_longest_pair_eV_A"
ENTRY = "+measurement={longest: {_target_: longest_bond.ForceOnLongestPair, power: 1.0}}"
CHOSEN = [ENTRY, "packages=[longest_bond]", f"objective={METRIC}"]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    yield
    sys.modules.pop("longest_bond", None)


def test_its_metric_is_recorded_returned_and_shown(composed, tmp_path):
    values = {
        seed: run(composed(*CHOSEN, f"seed={seed}"), tmp_path / str(seed), name=f"seed={seed}") for seed in (0, 1)
    }
    tracking = composed(*CHOSEN).tracking
    stored = {run.name: run for run in stored_runs(tracking.uri, tracking.experiment)}
    for seed, value in values.items():
        assert (
            stored[f"seed={seed}"].metrics[METRIC] == stored[f"seed={seed}"].metrics[objective_metric(METRIC)] == value
        )
    comparison = compare(tracking.uri, tracking.experiment, output=tmp_path / "comparison")
    console = Console(width=160, record=True, file=open(tmp_path / "shown", "w"))  # noqa: SIM115, PTH123
    comparison.show(console=console)
    shown = console.export_text()
    assert re.search(r"longest +.*\n.*eV/Å", shown)
    assert f"{sum(values.values()) / 2:.4f} ± " in shown  # two seeds are one choice
    assert more_is_better(METRIC, declared_metrics(list(stored.values())))  # as the best of the sweep is chosen
    assert not more_is_better(METRIC, declared_metrics())  # known by the runs alone


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_a_search_knows_which_way_it_is_meant(composed, direction):
    cfg = composed(*CHOSEN)
    with open_dict(cfg):
        cfg.hydra = {"sweeper": {"_target_": TARGET, "direction": direction}}
    if direction == "maximize":
        check_direction(cfg)
    else:
        with pytest.raises(InputError, match=r"direction=minimize.*worst of force_on_longest.*direction=maximize"):
            check_direction(cfg)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("measurement.longest.power=3", r"measurement\.longest\.power=3: give a number less than or equal to 2"),
        (
            "+measurement.longest.powr=1",
            r"measurement\.longest\.powr=1: there is no such setting",
        ),
        ("measurement.longest=null", f"objective={METRIC}: no measurement of this run gives it"),
    ],
)
def test_its_settings_are_checked_before_data_is_made(composed, changed, message):
    with pytest.raises(InputError, match=message):
        make_plan(composed(*CHOSEN, changed))


def test_its_own_check_is_asked(composed):
    with pytest.raises(InputError, match=r"measurement\.longest\.split=500K"):
        make_plan(composed(*CHOSEN, "+measurement.longest.split=500K")).read_data()


@pytest.mark.parametrize("direction", ["minimize", "Direction.minimize", "[maximize, minimize]"])
def test_any_search_that_has_a_direction_goes_the_right_way(composed, direction):
    """Optuna's sweepers minimise by default, whoever has written them."""
    cfg = composed("measurement=quick", "objective=loss_entropy")
    with open_dict(cfg):
        cfg.hydra = {"sweeper": {"_target_": "somebody.OptunaSweeper", "direction": yaml.safe_load(direction)}}
    with pytest.raises(InputError, match=r"hydra\.sweeper\.direction="):
        check_direction(cfg)


def test_searches_that_ship_go_the_right_way():
    from hydra import compose, initialize_config_dir
    from samples import ROOT

    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        for name in ("entropy_search", "pareto"):
            check_direction(compose(name, return_hydra_config=True))
