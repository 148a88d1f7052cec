"""How many points average out which noise? Linear regression, in seconds (appendix B of doi:10.1088/2632-2153/acf115).

A linear function of d features is learnt from n points whose labels have Gaussian noise of σ times their own standard
deviation, and is tested against labels without noise. Ordinary least squares leave an error of σ √(d / (n − d − 1)) on
new points, drawn beside what is measured: from about d (1 + σ² / e²) points on, the noise matters less than an error e.

    python benchmarks/toy_denoising.py [--output FIGURE.png]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

FEATURES = 10
POINTS = (15, 25, 50, 100, 200, 500, 1000, 5000)
NOISE = (0.0, 0.1, 0.5, 1.0, 2.0)
REPEATS = 200
TEST_POINTS = 500


def error(n: int, sigma: float, rng: np.random.Generator) -> float:
    """Root mean square error on new points without noise, in standard deviations of the labels."""
    truth = rng.normal(size=FEATURES)
    truth /= np.linalg.norm(truth)  # labels of standard deviation 1
    x = rng.normal(size=(n, FEATURES))
    y = x @ truth + sigma * rng.normal(size=n)
    fitted = np.linalg.lstsq(x, y, rcond=None)[0]
    new = rng.normal(size=(TEST_POINTS, FEATURES))
    return float(np.sqrt(np.mean((new @ (fitted - truth)) ** 2)))


def measured() -> pd.DataFrame:
    """One row for each number of points and σ: error (root of the mean square over repeats), and what theory gives."""
    rng = np.random.default_rng(0)
    rows = []
    for n in POINTS:
        for sigma in NOISE:
            squares = np.array([error(n, sigma, rng) ** 2 for _ in range(REPEATS)])
            theory = sigma * np.sqrt(FEATURES / (n - FEATURES - 1))
            stderr = squares.std(ddof=1) / np.sqrt(REPEATS) / (2 * np.sqrt(squares.mean())) if sigma else 0.0
            rows.append((n, sigma, np.sqrt(squares.mean()), stderr, theory))
    return pd.DataFrame(rows, columns=["points", "sigma", "error", "stderr", "theory"])


def figure_of(table: pd.DataFrame) -> Figure:
    """Error against the number of points, one line a σ."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for place, sigma in enumerate(s for s in NOISE if s):
        rows = table[table["sigma"] == sigma]
        axes.errorbar(rows["points"], rows["error"], rows["stderr"], fmt="o", color=f"C{place}", label=f"σ = {sigma:g}")
        axes.plot(rows["points"], rows["theory"], color=f"C{place}", linewidth=1)
        axes.axhline(sigma, color=f"C{place}", linestyle=":", linewidth=0.8)
    axes.set(xscale="log", yscale="log", xlabel="training points", ylabel="error, in standard deviations of the labels")
    axes.legend(title="dots measured, lines theory,\ndotted the noise itself", fontsize="small")
    return figure


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="where to draw it")
    chosen = parser.parse_args()
    found = measured()
    print(found.pivot(index="points", columns="sigma", values="error").round(3).to_string())
    worst = (found["error"] / found["theory"].where(found["theory"] > 0) - 1).abs().max()
    print(f"largest relative distance from σ √(d / (n − d − 1)): {worst:.1%}")
    if chosen.output:
        figure_of(found).savefig(chosen.output, dpi=150)
