"""A potential in the file of its own library is measured, and stands beside the runs that were trained here."""

import pytest
import torch
from recorded_runs import stored
from samples import ethanol_dataset, installed, small_model

from mlip_sweep import cli
from mlip_sweep.comparison.choices import choice_of, labels
from mlip_sweep.comparison.compare import compare
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import RMSE_FORCES_HIGH_T
from mlip_sweep.measurement.landscape.loss_entropy import LOSS_ENTROPY
from mlip_sweep.run.measure_file import file_overrides, measured_config
from mlip_sweep.tracking.read import stored_runs

SMALL = [
    *("measurement.landscape.directions=1", "measurement.landscape.points=3", "dataset.temperature=300"),
    *(f"~measurement.{name}" for name in ("stability", "sharpness", "bond_scans", "inference_time")),
]


@pytest.mark.skipif(not installed("mace-torch"), reason="mace is not installed (extra mace)")
def test_it_is_a_run_and_a_choice_named_after_the_file(files, tmp_path, monkeypatch):
    from mlip_sweep.models import mace_file

    monkeypatch.chdir(tmp_path)
    mace_file.write(
        small_model("mace", ethanol_dataset(), **mace_file.MACE.smallest, max_L=0), tmp_path / "their.model"
    )
    data = ["--train", f"{files}/train.xyz", "--test", f"300K={files}/cold.xyz", "--test", f"1200K={files}/hot.xyz"]
    assert cli.measure(["--model", "their.model", "--unpickle", "mace", *data, *SMALL]) == 0
    (run,) = stored_runs("sqlite:///mlflow.db", "mlip-sweep")
    assert run.status == "FINISHED" and run.name == run.params["model"] == "their.model"
    assert run.params["model.library"] == "mace" and run.params["dataset"] == "extxyz"
    assert {LOSS_ENTROPY, RMSE_FORCES_HIGH_T} <= run.metrics.keys()
    comparison = compare("sqlite:///mlflow.db", "mlip-sweep", output=tmp_path / "comparison")
    assert list(comparison.runs["name"]) == ["their.model"]


def test_it_adds_nothing_to_the_names_of_the_choices_beside_it():
    own = {"model": "mace", "rescaling": "none", "model.cutoff": 4.0, "optimizer": "adam", "optimizer.lr": 0.01}
    other = own | {"optimizer.lr": 0.1}
    file = {"model": "their.model", "model.sha256": "a1", "model.cutoff": 5.0}
    runs = [stored(name, params, {}) for name, params in {"a": own, "b": other, "c": file}.items()]
    choices = [choice_of(run.params) for run in runs]
    assert labels(choices) == ["mace · lr 0.01", "mace · lr 0.1", "their.model"]
    assert labels(choices[1:]) == ["mace", "their.model"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--model", "absent.model", "--unpickle", "mace"], "absent.model: no such file"),
        (["--model", "their.model"], "opening a pickle runs whatever code it holds"),
        (["--model", "their.model", "--unpickle", "mace"], "say what it was trained on, by --train FILE or dataset="),
        (["--model", "their.model", "--unpickle", "mace", "--test", "600K=a.xyz"], "give the frames that it was"),
        (["--model", "their.model", "--unpickle", "mace", "--train", "a.xyz", "--test", "600K"], "--test 600K: give L"),
        (["--model", "their.model", "--unpickle", "mace", "--train", "a.xyz"], "a.xyz: no such file"),
        (["--model", "their.model", "--unpickle", "mace", "dataset=3bpa", "loss=paper"], "loss=paper: a model of a"),
        (["--model", "their.model", "--unpickle", "mace", "dataset=3bpb"], "3bpb"),
    ],
)
def test_a_mistake_is_answered_in_a_line_and_opens_nothing(arguments, expected, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save(Dangerous(), "their.model")
    assert cli.measure(arguments) == 2
    _, line = capsys.readouterr().err.splitlines()
    assert line.startswith("mlip-measure: ") and expected in line
    assert [path.name for path in tmp_path.iterdir()] == ["their.model"]


class Dangerous:
    def __reduce__(self):
        return open, ("opened", "w")


def test_files_of_any_name_are_given(tmp_path):
    path = tmp_path / "it's, {a} test.xyz"
    path.touch()
    cfg, choices = measured_config([*file_overrides(str(path), [f"bulk={path}"]), "measurement=none"])
    assert cfg.dataset.train == cfg.dataset.tests.bulk == str(path)
    assert choices == {"dataset": "extxyz", "measurement": "none"}
    with pytest.raises(InputError, match="no such file"):
        measured_config(file_overrides(f"{path}2", []))
