from pathlib import Path

import pytest

from mlip_sweep.comparison.published import read_published
from mlip_sweep.errors import InputError

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "vita2023"
published = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the paper's tables are not in {FOLDER}")


@pytest.fixture(scope="module")
def tables():
    return read_published(FOLDER)


@published
def test_entropies_follow_from_the_published_landscapes(tables):
    found = tables.recomputed()
    assert len(found) == 13
    for ours, theirs in {"entropy_energy": "Se", "entropy_forces": "Sf", "entropy": "S"}.items():
        assert (found[ours] - tables.entropy[theirs]).abs().max() < 2e-7  # they are stored in single precision


@published
def test_times_to_failure_follow_from_the_published_replicas(tables):
    difference = tables.recomputed()["time_to_failure_ps"] - tables.entropy["explosion_mean"] / 1000
    assert difference.abs().max() < 1e-9


@published
def test_the_published_correlations_come_out(tables):
    found = {names: (round(c.pearson, 2), round(c.spearman, 2)) for names, c in tables.correlations().items()}
    assert found == {
        ("entropy", "time_to_failure_ps"): (0.61, 0.80),
        ("forces_rmse", "time_to_failure_ps"): (-0.84, -0.87),
        ("entropy", "learning_slope"): (-0.64, -0.87),
    }
    for correlation in tables.correlations().values():
        assert correlation.n == 13
        assert correlation.pearson_low < correlation.pearson < correlation.pearson_high


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nequip_losslands\.csv: no such table"):
        read_published(tmp_path)
