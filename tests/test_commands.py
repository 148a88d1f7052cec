"""The commands as a user types them: a small sweep on own files, then everything that can be done with its runs."""

import shutil
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ase.build import molecule
from samples import (
    ETHANOL_FILES,
    ROOT,
    TINY,
    installed_architectures,
    write_ethanol_files,
)

import mlip_sweep
from mlip_sweep import cli
from mlip_sweep.comparison.runs import last_parent, read_runs
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.dynamics.time_to_failure import TIME_TO_FAILURE
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY, LOSS_ENTROPY_STDERR
from mlip_sweep.tracking.read import stored_sweeps
from mlip_sweep.training.metrics import VALIDATION_LOSS_KEPT

BIN = Path(sys.executable).parent
ARCHITECTURES = [name for name in installed_architectures() if name in ("nequip", "mace")]  # two show what a grid does
SMALL = [
    *ETHANOL_FILES,
    "trainer.max_epochs=3",
    "trainer.checkpoint_every=1",
    "measurement.landscape.directions=2",
    "measurement.landscape.points=5",
    "measurement.landscape.plane_points=3",
    "measurement.stability.replicas=2",
    "measurement.stability.duration_ps=0.02",
    "measurement.bond_scans.points=20",
    "measurement.inference_time.max_atoms=50",
]

URI = "sqlite:///mlflow.db"

HYDRAS_OWN = ("num_layer", "dimenet")  # mistakes in the names of keys and groups are Hydra's to tell

pytestmark = pytest.mark.skipif(not ARCHITECTURES, reason="neither architecture is installed")


def command(name: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([BIN / name, *arguments], cwd=folder, capture_output=True, text=True, timeout=1800)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    write_ethanol_files(folder)
    return folder


@pytest.fixture(scope="module")
def sweep(data) -> Path:
    """A grid over what is installed, in a folder of its own."""
    done = command("mlip-sweep", "--multirun", f"model={','.join(ARCHITECTURES)}", "seed=0,1", *SMALL, folder=data)
    assert done.returncode == 0, done.stderr
    assert "stored:" in done.stdout
    return data


@pytest.fixture
def runs(sweep, monkeypatch) -> pd.DataFrame:
    monkeypatch.chdir(sweep)
    return read_runs(URI, "mlip-sweep")


def test_every_combination_is_recorded_whole(runs, sweep):
    assert len(runs) == 2 * len(ARCHITECTURES)
    assert set(runs["status"]) == {"FINISHED"}
    for name in (LOSS_ENTROPY, LOSS_ENTROPY_STDERR, RMSE_FORCES_HIGH_T, TIME_TO_FAILURE):
        assert np.isfinite(runs[name]).all(), name
    assert runs[LOSS_ENTROPY].nunique() == len(runs)
    assert {params["model"] for params in runs["params"]} == set(ARCHITECTURES)
    (output,) = (sweep / "multirun").iterdir()
    for file in ("comparison.csv", "landscapes.png", "survival.png", "prediction.png"):
        assert (output / "comparison" / file).stat().st_size > 0


def test_artifacts_of_a_run(runs):
    from mlip_sweep.tracking.read import stored_bytes

    for path in ("landscape/curves.npz", "landscape/landscape.png", "landscape/plane.png", "stability/replicas.csv"):
        assert stored_bytes(URI, runs["run_id"][0], path), path
    assert b"measurement:" in stored_bytes(URI, runs["run_id"][0], "config.yaml")


def test_compare_shows_the_last_sweep(runs, tmp_path, capsys):
    assert cli.compare(["--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "comparison.csv", float_precision="round_trip").set_index("run_id")
    assert set(table.index) == set(runs["run_id"])
    for _, run in runs.iterrows():
        assert table.loc[run["run_id"], LOSS_ENTROPY] == run[LOSS_ENTROPY]
    assert shown.count("→ trust ") == 1
    assert len(table["choice"].unique()) == len(ARCHITECTURES)  # seeds are no choices
    for choice, same in table.groupby("choice"):
        (line,) = [line for line in shown.splitlines() if line.split()[1:3] == [choice, "2"]]
        assert f"{same[LOSS_ENTROPY].mean():.2f} ± " in line


def test_a_run_becomes_a_calculator_and_agrees_with_its_folder(runs, sweep):
    run_id = runs["run_id"][0]
    calculator = mlip_sweep.load_calculator(f"runs:/{run_id}")
    (output,) = (sweep / "multirun").iterdir()
    other = mlip_sweep.load_calculator(str(output / "0" / "model"))
    atoms = molecule("CH3CH2OH")
    np.testing.assert_array_equal(calculator.get_forces(atoms), other.get_forces(atoms.copy()))


def test_a_folder_goes_on_with_its_own_training_only(sweep, typed):
    one = [f"model={ARCHITECTURES[0]}", *SMALL, "measurement=none", "objective=validation/loss", "hydra.run.dir=one"]
    one = [option for option in one if not option.startswith("measurement.")]
    (status, first, errors), (same, again, _) = (typed(*one, folder=sweep) for _ in range(2))
    assert status == same == 0, errors
    assert "training on" in first
    assert "has finished before" in again and "training on" not in again
    refused, _, errors = typed(*one, "seed=5", folder=sweep)
    assert refused == 1
    (line,) = [line for line in errors.splitlines() if line.startswith("mlip-sweep: hydra.run.dir=")]
    assert "seeds.model=0 (now 5)" in line


def test_a_grid_that_is_resumed_does_nothing_twice_and_registers_its_best(sweep, typed, monkeypatch):
    monkeypatch.chdir(sweep)
    before = read_runs(URI, "mlip-sweep", last_parent(URI, "mlip-sweep"))
    grid = [f"model={','.join(ARCHITECTURES)}", "seed=0,1", *SMALL]
    status, output, errors = typed("--multirun", *grid, "resume=true", "tracking.register=pot", folder=sweep)
    assert status == 0, errors
    assert output.count("has finished before") == len(before)
    parent = last_parent(URI, "mlip-sweep")  # another sweep, since it does more
    assert set(read_runs(URI, "mlip-sweep", parent)["run_id"]) == set(before["run_id"])
    best = next(run for run in stored_sweeps(URI, "mlip-sweep") if run.run_id == parent).tags["best.run_id"]
    assert best in set(before["run_id"])
    forces = [
        mlip_sweep.load_calculator(uri).get_forces(molecule("CH3CH2OH"))
        for uri in ("models:/pot@best", f"runs:/{best}")
    ]
    np.testing.assert_array_equal(*forces)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ to compile with")
def test_compiled_runs_are_the_same_runs(data, typed):
    """Of two that train together, since compiling takes a minute."""
    tiny = [f"model.{name}={value}" for name, value in TINY[ARCHITECTURES[0]].items()]
    options = [f"model={ARCHITECTURES[0]}", *tiny, *SMALL, "trainer.dtype=float64"]
    together = ["--multirun", "seed=0,1", "hydra/launcher=cohort"]
    for choice in ("true", "false"):
        named = f"tracking.experiment=compiled_{choice}"
        status, _, errors = typed(*together, f"trainer.compile={choice}", named, *options, folder=data)
        assert status == 0, errors
    compiled, eager = read_runs(URI, "compiled_true"), read_runs(URI, "compiled_false")
    expected = {run["params"]["seed"]: run for _, run in eager.iterrows()}
    same = [LOSS_ENTROPY, RMSE_FORCES_HIGH_T, VALIDATION_LOSS_KEPT]
    assert len(compiled) == 2
    for _, run in compiled.iterrows():
        values = expected[run["params"]["seed"]][same]
        np.testing.assert_allclose(run[same].to_numpy(float), values.to_numpy(float), rtol=1e-5)


def test_measuring_again_with_the_same_settings_gives_the_same_numbers(runs):
    run_id, entropy = runs["run_id"][0], runs[LOSS_ENTROPY][0]
    assert cli.measure([run_id, *(s for s in SMALL if "landscape" in s), "~measurement.stability"]) == 0
    from mlip_sweep.tracking.read import stored_runs

    (again,) = stored_runs(URI, "mlip-sweep", run_id)
    assert again.status == "FINISHED"
    assert again.metrics[LOSS_ENTROPY] == pytest.approx(entropy, abs=1e-5)
    assert TIME_TO_FAILURE not in again.metrics


def test_measuring_again_can_only_change_the_measurement(runs, capsys):
    assert cli.measure([runs["run_id"][0], "model=mace"]) == 2
    first, line = capsys.readouterr().err.splitlines()
    assert first.startswith("mlip-measure: ")
    assert line.startswith("mlip-measure: model=mace: only `measurement` can change")
    assert cli.measure(["0" * 32]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_errors_begin_with_the_command(tmp_path, capsys):
    assert cli.compare(["--uri", f"sqlite:///{tmp_path}/absent.db"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"mlip-compare: sqlite:///{tmp_path}/absent.db: no such")
    assert cli.measure(["0" * 32, "--uri", f"sqlite:///{tmp_path}/absent.db"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("mlip-measure: ")


WATCH = """
import builtins, sys
from mlip_sweep import cli
plain = builtins.__import__
def watched(name, *more):
    if name.partition(".")[0] in ("torch", "mlflow", "pytorch_lightning", "optuna") and name not in sys.modules:
        print("HEAVY", name, flush=True)
        raise SystemExit(0)
    return plain(name, *more)
builtins.__import__ = watched
sys.argv = sys.argv[1:]
sys.exit(getattr(cli, sys.argv[0].removeprefix("mlip-"))())
"""


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            ["mlip-sweep", "hydra.run.dir=here"],
            ": NequIP on ethanol_xtb, 100 epochs, in here",
        ),
        (["mlip-sweep", "--multirun", "seed=0,1", "hydra.sweep.dir=here"], "sweep: 2 runs over seed, in here"),
        (["mlip-sweep", "--config-name=quickstart"], "sweep: 8 runs over model, rescaling, averaging, in multirun/"),
        (
            ["mlip-sweep", "--config-name=entropy_search"],
            "32 trials, 8 at once, to maximize loss_entropy, over model",
        ),
        (["mlip-compare"], "mlip-compare: the last sweep, in sqlite:///mlflow.db"),
        (
            ["mlip-measure", "ID", "measurement=paper"],
            "mlip-measure: ID again, measurement=paper, in sqlite:///mlflow.db",
        ),
        (["mlip-export", "ID", "--to", "mace"], "mlip-export: ID to mace"),
    ],
)
def test_first_words_come_before_anything_heavy_is_imported(typed, said, tmp_path):
    (tmp_path / "mlflow.db").touch()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *typed], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    first, *_ = lines = done.stdout.splitlines()
    assert said in first, done.stdout
    assert any(line.startswith("HEAVY") for line in lines[1:]), done.stdout  # it would have been noticed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["model.num_layer=3"], "num_layer"),
        (["model=dimenet"], "dimenet"),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0: give a number greater than 0"),
        (["trainer.max_epochs=many"], "trainer.max_epochs"),
        (["measurement=none"], "objective=loss_entropy: no measurement of this run gives it"),
        (["optimizer._target_=torch.optim.Adamm"], "Adamm"),
        (["dataset=extxyz", "dataset.train=absent.xyz"], "absent.xyz: no such file"),
        (["model.num_layers=three"], "model.num_layers='three': give an integer"),
        (["optimizer.lr=-1"], "optimizer.lr=-1: give a number greater than 0"),
        (["averaging=ema", "averaging.decay=2"], "averaging.decay=2"),
        (["dataset=extxyz", "dataset.train=train.xyz", "measurement.stability.max_bond_A=1.0"], "max_bond_A=1.0"),
    ],
)
def test_a_mistake_is_answered_in_a_line(arguments, expected, data, typed):
    status, _, errors = typed(*arguments, f"hydra.run.dir={data}/mistake", folder=data)
    assert status != 0
    assert "Traceback" not in errors
    if expected in HYDRAS_OWN:
        assert expected in errors
    else:
        (line,) = [line for line in errors.splitlines() if line.startswith("mlip-sweep: ")]
        assert expected in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["dataset.train=absent.xyz"], "absent.xyz: no such file"),
        (["dataset.train=train.xyz", "dataset.tests={bulk: absent.xyz}"], "absent.xyz: no such file"),
        (["dataset.train=train.xyz", "dataset.tests={600K: b.xyz}"], "dataset.tests: 600K is compared with"),
    ],
)
def test_files_are_looked_for_before_anything_heavy_is_imported(arguments, expected, data, tmp_path):
    """A mistake in a file's name is answered at once, and is no run."""
    options = ["dataset=extxyz", *arguments, f"hydra.run.dir={tmp_path}", f"tracking.uri=sqlite:///{tmp_path}/runs.db"]
    code = (  # the command itself, then what it has imported
        "import atexit, sys, mlip_sweep.cli; heavy = ('torch', 'ase', 'numpy', 'mlflow', 'pytorch_lightning')\n"
        "atexit.register(lambda: print('imported:', [name for name in heavy if name in sys.modules]))\n"
        "mlip_sweep.cli.sweep()"
    )
    done = subprocess.run([sys.executable, "-c", code, *options], cwd=data, capture_output=True, text=True)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlip-sweep: ") and expected in line
    assert done.stdout.splitlines() == ["imported: []"]
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.parametrize("name", ["mlip-sweep", "mlip-compare", "mlip-measure"])
def test_help_is_useful_and_loads_nothing_heavy(name, tmp_path):
    done = command(name, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "xamples" in done.stdout
    code = "import sys, mlip_sweep.cli; print({'torch', 'mlflow', 'ase', 'nequip'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_configs_compose():
    """Every choice of every group, one of each group at a time, every published model, and every sweep."""
    from hydra import compose, initialize_config_dir

    groups = [
        group for group in (ROOT / "conf").iterdir() if group.is_dir() and group.name not in ("hydra", "published")
    ]
    choices = [[f"{group.name}={choice.stem}" for choice in sorted(group.glob("*.yaml"))] for group in groups]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        for together in zip_longest(*choices):
            assert compose("run", overrides=[choice for choice in together if choice])
        for model in (ROOT / "conf" / "published").glob("*.yaml"):
            assert compose("run", overrides=[f"published={model.stem}", "scale=small"])
        for sweep in (ROOT / "sweeps").glob("*.yaml"):
            assert compose(sweep.stem).dataset
