"""The published numbers: that the packaged table follows from the raw ones by our functions, and stands beside runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from recorded_runs import stored

from mlip_sweep.comparison.published import (
    beside_published,
    chosen_by,
    published_landscapes,
    published_models,
    slopes_beside_published,
)
from mlip_sweep.comparison.published_figures import (
    published_landscapes_figure,
    published_prediction_figure,
    published_slopes_figure,
    published_times_figure,
)
from mlip_sweep.comparison.runs import Landscape, runs_table
from mlip_sweep.comparison.statistics import correlation, learning_slope
from mlip_sweep.comparison.verdict import verdict
from mlip_sweep.config import config_folder
from mlip_sweep.measurement.accuracy import RMSE_FORCES_ALL_T, RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.entropy import EntropySettings, combined_entropy, landscape_entropy
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "vita2023"
needs_tables = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the paper's tables are not in {FOLDER}")
# Published once more under another name, with the same settings.
REPEATED = {
    "nequip_non_trainable_bessel": "nequip_2-layer",
    "mace_no_bessel": "mace_v2_l3",
    "mace_only_rescaling": "mace_v2-base",
}
SIZES = (25, 125, 250, 500)  # of the learning curves; the point at 5 structures is left out


def raw(name):
    return pd.read_csv(FOLDER / name, index_col=0)


def test_every_published_model_has_a_config_and_no_other():
    names = {path.stem for path in (config_folder("conf") / "published").glob("*.yaml")}
    assert {name for name in names if not name.startswith("_")} == set(published_models().index)
    assert len(published_models()) == 28


def test_repeated_models_have_the_same_config():
    for name, same in REPEATED.items():
        configs = [(config_folder("conf") / "published" / f"{one}.yaml").read_text() for one in (name, same)]
        plain = [[line for line in text.splitlines() if not line.startswith("#")] for text in configs]
        assert plain[0] == plain[1]


@needs_tables
@pytest.mark.parametrize("architecture", ["nequip", "mace"])
def test_the_landscapes_are_the_raw_ones(architecture):
    theirs = raw(f"{architecture}_losslands.csv")
    names = published_models()["published_name"]
    ours = published_landscapes().replace({"model": names.to_dict()})
    ours = ours[published_landscapes()["model"].str.startswith(architecture)]
    both = ours.merge(theirs, left_on=["model", ours["t"].round(6)], right_on=["model", theirs["x"].round(6)])
    assert len(both) == len(ours) == 41 * names.index.str.startswith(architecture).sum()
    np.testing.assert_allclose(both["energy_eV_atom"], both["e"], rtol=6e-4)
    np.testing.assert_allclose(both["forces_eV_A"], both["f"], rtol=6e-4)


@needs_tables
@pytest.mark.parametrize("architecture", ["nequip", "mace"])
def test_the_table_follows_from_the_raw_ones(architecture):
    landscapes, learning = raw(f"{architecture}_losslands.csv"), raw(f"{architecture}_learning.csv")
    times, entropy = raw(f"{architecture}_explosion.csv"), raw(f"{architecture}_entropy.csv")
    settings = EntropySettings()
    table = published_models()
    ours = table[table.index.str.startswith(architecture)]
    assert set(ours["published_name"]) == set(entropy.index)
    for _, row in ours.iterrows():
        name = row["published_name"]
        curve = landscapes[landscapes["model"] == name].sort_values("x")
        if len(curve) == 81:  # one of MACE's models has no landscape
            energy = float(landscape_entropy(curve["e"].to_numpy(), settings.temperature_energy))
            forces = float(landscape_entropy(curve["f"].to_numpy(), settings.temperature_forces))
            total = combined_entropy(energy, forces, settings.alpha)
            assert (energy, forces, total) == pytest.approx((row["S_E"], row["S_F"], row["S"]), abs=6e-5)
        of_model = times.loc[times["model"] == name, "explosion"] / 1000
        assert row["time_to_failure_ps"] == pytest.approx(of_model.mean(), abs=6e-5)
        assert row["replicas"] == len(of_model)
        curve = learning[(learning["model"] == name) & learning["n"].isin(SIZES)]
        if len(curve):
            assert row["learning_slope"] == pytest.approx(learning_slope(curve["n"], curve["f"]), abs=6e-5)


def test_the_published_correlations_come_out():
    table = published_models()
    table = table[table.index.str.startswith("nequip")]
    found = {name: correlation(table[name], table["time_to_failure_ps"]) for name in ("S", "rmse_forces_meV_A")}
    rounded = {name: (round(c.pearson, 2), round(c.spearman, 2), c.n) for name, c in found.items()}
    assert rounded == {"S": (0.61, 0.80, 13), "rmse_forces_meV_A": (-0.84, -0.87, 13)}


def of_paper(models, **changes):
    runs = [
        stored(
            f"{name}-{seed}",
            {"model": name.partition("_")[0], "published": name, "seed": seed, "seeds.model": seed, **changes},
            {LOSS_ENTROPY: value + 0.1 * seed, TIME_TO_FAILURE: 1.0 + seed, RMSE_FORCES_HIGH_T: 100.0},
        )
        for name, value in models.items()
        for seed in range(3)
    ]
    return verdict(runs_table(runs), {})


def test_own_runs_stand_beside_the_published_ones_in_the_paper_s_order():
    found = of_paper({"mace_v2_l1": 1.0, "nequip_baseline": -3.0, "nequip_2-layer": 2.0})
    table = beside_published(found)
    assert list(table["model"]) == ["nequip_2-layer", "nequip_baseline", "mace_v2_l1"]
    row = table.iloc[1]
    assert (row["S_published"], row["seeds"]) == (-0.8379, 3)
    assert row["S_mean"] == pytest.approx(-2.9)
    assert row["S_stderr"] == pytest.approx(np.std([-3.0, -2.9, -2.8], ddof=1) / np.sqrt(3))
    assert len(published_prediction_figure(table).axes) == 4
    assert [axes.get_title() for axes in published_times_figure(table).axes] == ["published", "here"]


def test_a_choice_of_the_paper_is_called_by_its_name():
    found = of_paper({"mace_v2_l1": 1.0, "nequip_baseline": -3.0})
    assert {choice.label for choice in found.choices} == {"mace_v2_l1", "nequip_baseline"}


def test_a_model_with_another_choice_on_top_is_none_of_the_paper_s():
    chosen = {"optimizer": "adam", "averaging": "none", "rescaling": "forces_rms"}
    assert chosen_by("nequip_2-layer_baseline") == chosen
    assert len(beside_published(of_paper({"nequip_2-layer_baseline": 1.0}, **chosen))) == 1
    assert beside_published(of_paper({"nequip_2-layer_baseline": 1.0}, **chosen | {"optimizer": "sam"})).empty


def test_runs_of_other_models_have_no_table():
    assert beside_published(of_paper({"mine": 1.0})).empty


def test_landscapes_stand_side_by_side():
    found = of_paper({"mace_v2_l1": 1.0, "nequip_baseline": -3.0})
    curves = np.full((2, 5), 0.02)
    of_nequip = {run: Landscape(np.linspace(-0.25, 0.25, 5), curves, 2 * curves) for run in found.runs["run_id"]}
    of_nequip = {run: curve for run, curve in of_nequip.items() if run.startswith("nequip")}
    axes = published_landscapes_figure(found, of_nequip).axes
    assert [one.get_title() for one in axes[:2]] == ["NequIP, published", "NequIP, here"]
    (published,), (forces,) = axes[0].lines, axes[3].lines
    assert published.get_ydata()[20] == pytest.approx(6.114)  # meV/atom at t = 0
    assert list(forces.get_ydata()) == pytest.approx([40.0] * 5)
    assert published_landscapes_figure(found, {}) is None


def learning(model, slope):
    return [
        stored(
            f"{model}-{n}-{seed}",
            {"model": "nequip", "published": model, "seed": seed, "seeds.model": seed, "dataset.n_train": n},
            {LOSS_ENTROPY: 0.01 * n + seed, RMSE_FORCES_ALL_T: 500.0 * (1 + seed) * n**slope},
        )
        for n in (10, 40)
        for seed in range(2)
    ]


def test_learning_slopes_stand_beside_the_published_ones():
    runs = [*learning("nequip_2-layer", -0.5), *learning("nequip_baseline", -0.25)]
    found = verdict(runs_table(runs), {})
    table = slopes_beside_published(found).set_index("model")
    assert list(table.index) == ["nequip_2-layer", "nequip_baseline"]
    assert list(table["learning_slope_mean"]) == pytest.approx([-0.5, -0.25])
    assert table.loc["nequip_2-layer", "learning_slope_published"] == pytest.approx(-0.2229)
    assert table.loc["nequip_2-layer", "S_mean"] == pytest.approx(0.9)  # on 40 frames, over both seeds
    assert len(published_slopes_figure(table.reset_index()).axes) == 4
    largest = beside_published(found)  # one row a model: that on the most frames
    assert list(largest["S_mean"]) == pytest.approx([0.9, 0.9])
    assert published_times_figure(largest) is None  # nobody has measured them
    assert slopes_beside_published(of_paper({"nequip_baseline": 1.0})).empty
