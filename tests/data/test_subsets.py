from dataclasses import replace

import numpy as np
import pytest

from mlip_sweep.data.subsets import LabelNoise, split_off, subset, with_label_noise
from mlip_sweep.errors import InputError


def test_split_is_a_partition_under_the_seed(frames):
    pool = frames(50)
    rest, drawn = split_off(pool, 10, seed=3)
    assert (len(rest), len(drawn)) == (40, 10)
    assert {id(f) for f in rest} | {id(f) for f in drawn} == {id(f) for f in pool}
    again = split_off(pool, 10, seed=3)
    assert [f.origin for f in again[1]] == [f.origin for f in drawn]
    assert [f.origin for f in split_off(pool, 10, seed=4)[1]] != [f.origin for f in drawn]


def test_subsets_are_nested(frames):
    pool = frames(40)
    chosen = {n: subset(pool, n, seed=5) for n in (5, 25, 40)}
    assert chosen[5] == chosen[25][:5]
    assert chosen[25] == chosen[40][:25]
    assert sorted(chosen[40]) == list(range(40))
    assert subset(pool, None, seed=5) == chosen[40]
    assert subset(pool, 25, seed=6) != chosen[25]
    with pytest.raises(InputError, match=r"dataset.n_train=41: the training set has only 40 frames"):
        subset(pool, 41, seed=5)


def test_noise_has_the_size_that_was_asked_for(frames):
    pool, others = frames(400), frames(200, seed=1)
    noisy, noisy_others = with_label_noise(pool, others, LabelNoise(forces_sigma=0.1, energy_sigma=2.0), seed=0)
    forces_width = 0.1 * np.std(np.concatenate([f.forces for f in pool]))
    energy_width = 2.0 * np.std([f.energy for f in pool])
    for clean, dirty in ((pool, noisy), (others, noisy_others)):
        force_errors = np.concatenate([(d.forces - c.forces).ravel() for c, d in zip(clean, dirty, strict=True)])
        energy_errors = np.array([d.energy - c.energy for c, d in zip(clean, dirty, strict=True)])
        for errors, width in ((force_errors, forces_width), (energy_errors, energy_width)):
            n = len(errors)  # a standard deviation of n samples strays by σ/√(2n), a mean by σ/√n: four of these
            assert np.std(errors) == pytest.approx(width, abs=4 * width / np.sqrt(2 * n))
            assert np.mean(errors) == pytest.approx(0.0, abs=4 * width / np.sqrt(n))
        for c, d in zip(clean, dirty, strict=True):
            np.testing.assert_array_equal(c.positions, d.positions)


def test_noise_on_stresses_is_symmetric_and_leaves_other_noise_as_it_was(frames):
    rng = np.random.default_rng(0)
    pool = [replace(f, stress=a + a.T) for f, a in zip(frames(400), rng.standard_normal((400, 3, 3)), strict=True)]
    pool[0] = replace(pool[0], stress=None)
    noise = LabelNoise(forces_sigma=0.1, stress_sigma=0.2)
    noisy, _ = with_label_noise(pool, [], noise, seed=0)
    without, _ = with_label_noise(frames(400), [], replace(noise, stress_sigma=0.0), seed=0)
    np.testing.assert_array_equal([f.forces for f in noisy], [f.forces for f in without])
    assert noisy[0].stress is None
    added = np.array([n.stress - f.stress for n, f in zip(noisy[1:], pool[1:], strict=True)])
    np.testing.assert_allclose(added, added.transpose(0, 2, 1), atol=1e-12)
    width = 0.2 * np.std([f.stress for f in pool[1:]])
    assert np.std(added) == pytest.approx(width, abs=4 * width / np.sqrt(2 * 6 * 399))
    with pytest.raises(InputError, match=r"dataset.noise.stress_sigma=0.2: no training frame has a stress"):
        with_label_noise(frames(4), [], noise, seed=0)


def test_without_noise_nothing_is_copied(frames):
    pool, others = frames(4), frames(2, seed=1)
    noisy, noisy_others = with_label_noise(pool, others, LabelNoise(), seed=0)
    assert noisy is pool
    assert noisy_others is others
