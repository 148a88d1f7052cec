"""One run, from a config to what is recorded and returned; and where it starts."""

import math

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from samples import installed

from mlip_sweep.data import stored_graphs
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.accuracy import rmse_forces
from mlip_sweep.metrics import objective_metric, wall_time
from mlip_sweep.run.plan import make_plan
from mlip_sweep.run.remeasure import remeasure
from mlip_sweep.run.run import run
from mlip_sweep.run.start import RECIPE, Finished, Fresh, Resumed, find_start
from mlip_sweep.tracking.read import SUPERSEDED, stored_runs
from mlip_sweep.training.fit import LAST
from mlip_sweep.training.metrics import KEPT_EPOCH, VALIDATION_LOSS, VALIDATION_LOSS_KEPT

pytestmark = pytest.mark.skipif(not installed("nequip"), reason="nequip is not installed (extra nequip)")
ACCURACY = "+measurement={accuracy: {_target_: mlip_sweep.measurement.accuracy.Accuracy, max_atoms: 100}}"


class LostNodeError(Exception):
    pass


def only_run(cfg):
    (stored,) = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)
    return stored


def start_of(cfg, folder, **options):
    plan = make_plan(cfg)
    return find_start(plan, plan.read_data(), folder, **options)


@pytest.fixture
def lost(monkeypatch):
    """Trainings end after their first checkpoint, as if the node was lost."""

    def lose_node():
        from mlip_sweep.training import best_weights

        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:
                raise LostNodeError

        monkeypatch.setattr(best_weights.BestWeights, "on_train_epoch_start", on_train_epoch_start)
        return monkeypatch

    return lose_node


HIGH_T = (("forces", "meV_A"), ("energy", "meV_atom"))


def test_a_run_returns_what_it_recorded(composed, tmp_path):
    cfg = composed(ACCURACY, "objective=[validation/loss, rmse_forces_1200K_meV_A]")
    loss, rmse = run(cfg, tmp_path, choices={"model": "nequip", "averaging": "none"})
    stored = only_run(cfg)
    assert stored.status == "FINISHED"
    assert stored.metrics[objective_metric(VALIDATION_LOSS)] == stored.metrics[VALIDATION_LOSS_KEPT] == loss
    assert stored.metrics[objective_metric(rmse_forces("1200K"))] == stored.metrics[rmse_forces("1200K")] == rmse
    assert stored.metrics[KEPT_EPOCH] in (0, 1)
    for phase in ("data", "model", "training", "saving", "accuracy"):
        assert math.isfinite(stored.metrics[wall_time(phase)]), phase
    assert stored.tags["data.frames"] == "train 7, validation 1, 300K 8, 1200K 8"
    assert (tmp_path / "model" / "checkpoint.pt").is_file() and (tmp_path / LAST).is_file()
    # Parameters are as typed; a choice that nobody has told is the function that its config names.
    assert [stored.params[key] for key in ("model", "averaging", "dataset")] == ["nequip", "none", "extxyz"]
    table, errors, context = stored.tags["mlflow.note.content"].split("\n\n")
    high, energy = (stored.metrics[f"rmse_{name}_high_T_{unit}"] for name, unit in HIGH_T)
    assert table.splitlines()[2:] == [
        f"| forces RMSE, high T&emsp; | **{high:.0f} meV/Å** |",
        f"| energy RMSE, high T&emsp; | **{energy:.1f} meV/atom** |",
    ]
    assert [line.split("|")[1].strip() for line in errors.splitlines()[2:]] == [
        *("300K", "1200K", "train", "all_T", "high_T")
    ]
    assert context.endswith(" · frames: train 7, validation 1, 300K 8, 1200K 8")


def test_a_set_whose_neighbour_lists_are_on_disk_gives_the_same_run(composed, tmp_path, monkeypatch):
    monkeypatch.setenv("MLIP_SWEEP_CACHE", str(tmp_path / "cache"))
    target = "_target_: mlip_sweep.measurement.landscape.loss_entropy.LossEntropy"
    landscape = f"+measurement.landscape={{{target}, directions: 2, points: 5, plane_points: 0}}"
    cfg = composed(ACCURACY, landscape)
    losses = []
    for size in (stored_graphs.IN_MEMORY, 0):
        monkeypatch.setattr(stored_graphs, "IN_MEMORY", size)
        losses.append(run(cfg, tmp_path / f"{size}"))
        assert (tmp_path / "cache" / "graphs").is_dir() == (size == 0)
    assert losses[0] == losses[1]
    first, second = (stored.metrics for stored in stored_runs(cfg.tracking.uri, cfg.tracking.experiment))
    for name in ("loss_entropy", rmse_forces("1200K"), rmse_forces("train")):
        assert first[name] == second[name]


def test_measuring_again_repeats_the_numbers(composed, tmp_path):
    cfg = composed(ACCURACY)
    run(cfg, tmp_path, choices={"model": "nequip", "measurement": "none"})
    before = only_run(cfg)
    metrics = remeasure(before.run_id[:6], uri=cfg.tracking.uri)
    (again,) = stored_runs(cfg.tracking.uri, cfg.tracking.experiment, before.run_id)
    assert again.tags["measured"] == before.run_id
    assert [again.params[key] for key in ("model", "measurement")] == ["nequip", "none"]
    assert again.tags["data.checksum"] == before.tags["data.checksum"]
    for label in ("train", "300K", "1200K"):
        assert metrics[rmse_forces(label)] == again.metrics[rmse_forces(label)]
        assert metrics[rmse_forces(label)] == pytest.approx(before.metrics[rmse_forces(label)], rel=1e-6)


def test_measuring_again_with_other_settings_measures_what_they_say(composed, tmp_path):
    cfg = composed(ACCURACY)
    run(cfg, tmp_path)
    quick = ["measurement=quick", "~measurement.stability", "~measurement.landscape"]
    for place in (tmp_path, tmp_path / "model"):
        metrics = remeasure(str(place), quick, uri=cfg.tracking.uri)
        assert "inference_time_us_atom" in metrics and rmse_forces("300K") in metrics
        assert not any(name.startswith(("md_", "loss_entropy")) for name in metrics)
    again = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)[-1]
    assert again.params["measurement"] == "quick"
    with pytest.raises(InputError, match=r"measurement\.accuracy\.max_atoms=0"):
        remeasure(str(tmp_path), ["measurement.accuracy.max_atoms=0"], uri=cfg.tracking.uri)
    with pytest.raises(InputError, match=r"config\.yaml: not the config of a run"):
        remeasure(str(tmp_path.parent), uri=cfg.tracking.uri)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("dataset.train=absent.xyz", "absent.xyz: no such file"),
        ("dataset.temperature=null", "dataset.tests: 300K is compared with the temperature of the training frames"),
        ("dataset.n_train=1000", "n_train=1000"),
        ("rescaling=isolated_atoms", "rescaling=isolated_atoms: dataset extxyz has no isolated-atom energy"),
    ],
)
def test_what_is_wrong_with_the_data_is_no_run(composed, tmp_path, mistake, message):
    cfg = composed()
    run(composed("trainer.max_epochs=1"), tmp_path / "sound")
    with pytest.raises(InputError, match=message):
        run(composed(mistake), tmp_path / "mistaken")
    assert only_run(cfg).status == "FINISHED"


def test_a_start_without_bonds_is_no_run(composed, tmp_path):
    argon = [Atoms("Ar2", [[0.0, 0.0, 0.0], [0.0, 0.0, 3.6 + 0.1 * k]]) for k in range(4)]
    for atoms in argon:
        atoms.calc = SinglePointCalculator(atoms, energy=-0.01, forces=np.zeros((2, 3)))
    ase.io.write(tmp_path / "argon.xyz", argon)
    store = f"tracking.uri=sqlite:///{tmp_path}/runs.db"
    cfg = composed(f"dataset.train={tmp_path}/argon.xyz", "dataset.tests=null", "measurement=quick", store)
    with pytest.raises(InputError, match=r"^measurement\.stability\.criteria: bonds alone"):
        run(cfg, tmp_path / "run")
    assert not (tmp_path / "runs.db").exists()


def test_isolated_atoms_among_the_frames_are_told_and_used(composed, tmp_path, files, caplog):
    atoms = [Atoms(symbol, info={"config_type": "IsolatedAtom"}) for symbol in ("H", "C", "O")]
    for energy, atom in enumerate(atoms):
        atom.calc = SinglePointCalculator(atom, energy=energy, forces=np.zeros((1, 3)))
    train = tmp_path / "train.xyz"
    ase.io.write(train, [*atoms, *ase.io.read(files / "train.xyz", ":")])
    cfg = composed(f"dataset.train={train}", "rescaling=isolated_atoms", "trainer.max_epochs=1")
    with caplog.at_level("INFO"):
        run(cfg, tmp_path / "run")
    note, *_ = only_run(cfg).tags["data.notes"].splitlines()
    assert note.startswith(f"frames of isolated atoms (3 of {train}) are in no set")
    assert f"dataset: {note}" in caplog.messages
    assert only_run(cfg).tags["data.frames"] == "train 7, validation 1, 300K 8, 1200K 8"


def test_a_fresh_folder_is_started_afresh(composed, tmp_path):
    start = start_of(composed(), tmp_path / "new")
    assert start == Fresh()
    assert (tmp_path / "new" / RECIPE).is_file()


def test_a_broken_training_goes_on_as_the_same_run(composed, tmp_path, lost):
    cfg = composed()
    patch = lost()
    with pytest.raises(LostNodeError):
        run(cfg, tmp_path)
    broken = only_run(cfg)
    assert broken.status == "FAILED"
    patch.undo()
    start = start_of(cfg, tmp_path)
    assert (type(start), start.source, start.run_id) == (Resumed, tmp_path, broken.run_id)
    resumed = run(cfg, tmp_path)
    assert only_run(cfg).status == "FINISHED"
    other = composed("tracking.experiment=uninterrupted")
    assert run(other, tmp_path / "whole") == resumed


def test_a_checkpoint_of_another_training_is_refused(composed, tmp_path):
    run(composed(), tmp_path)
    with pytest.raises(InputError, match=r"hydra\.run\.dir=.*optimizer\.lr=0\.005 \(now 0\.1\).*trainer\.resume=false"):
        run(composed("optimizer.lr=0.1"), tmp_path)
    assert type(start_of(composed("optimizer.lr=0.1", "trainer.resume=false"), tmp_path)) is Fresh


class Planted:
    """Runs code when it is unpickled, unless nobody lets it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return type(self.mark).touch, (self.mark,)


@pytest.mark.parametrize("what", ["bytes", "nothing", "code", "another program", "another model"])
def test_a_checkpoint_that_is_none_is_told_and_never_run(composed, tmp_path, lost, what):
    folder, mark = tmp_path / "run", tmp_path / "code was run"
    patch = lost()
    with pytest.raises(LostNodeError):
        run(composed(), folder)
    patch.undo()
    last = folder / LAST
    content = torch.load(last, weights_only=True)
    name, *_ = content["state_dict"]
    match what:
        case "bytes":
            last.write_bytes(np.random.default_rng(0).bytes(1000))
        case "nothing":
            last.write_bytes(b"")
        case "code":
            torch.save(content | {"planted": Planted(mark)}, last)
        case "another program":
            torch.save({"model": content["state_dict"]}, last)
        case "another model":
            torch.save(content | {"state_dict": {name: content["state_dict"][name]}}, last)
    with pytest.raises(InputError, match=r"last\.ckpt: .*remove it, or trainer\.resume=false to start over$"):
        run(composed(), folder)
    assert not mark.exists()
    (folder / RECIPE).unlink()
    with pytest.raises(InputError, match=r"no training\.yaml says what its last\.ckpt is of"):
        run(composed(), folder)


@pytest.mark.parametrize("file", [RECIPE, "model/config.yaml"])
def test_a_record_in_a_folder_that_cannot_be_read_is_told(composed, tmp_path, file):
    run(composed(), tmp_path)
    (tmp_path / file).write_text("{")
    with pytest.raises(InputError, match=rf"{file}: not as mlip-sweep has written it"):
        run(composed(), tmp_path)


def test_measuring_again_on_changed_data_is_refused_or_told(composed, tmp_path, files, caplog):
    data = tmp_path / "mine.xyz"
    data.write_text((files / "train.xyz").read_text())
    cfg = composed(ACCURACY, f"dataset.train={data}", "trainer.max_epochs=1")
    run(cfg, tmp_path / "run")
    frames = ase.io.read(data, ":")
    frames[0].positions[0, 0] += 0.001
    ase.io.write(data, frames)
    before = only_run(cfg)
    for place in (before.run_id, str(tmp_path / "run")):
        with pytest.raises(InputError, match=r"the data has changed since the training \(checksum .*--other-data"):
            remeasure(place, uri=cfg.tracking.uri)
    assert only_run(cfg) == before
    remeasure(before.run_id, uri=cfg.tracking.uri, other_data=True)
    assert any("the numbers are of other frames" in line for line in caplog.messages)


@pytest.mark.parametrize(
    ("objective", "gives"),
    [
        ("rmse_forces_300K_meV_A", True),
        ("mae_energy_high_T_meV_atom", True),
        ("extrapolation_slope_forces_meV_A_K", True),
        ("wall_time/accuracy_s", True),
        ("rmse_forces_9999K_meV_A", False),
        ("rmse_forces_train_clean_meV_A", False),
    ],
)
def test_an_objective_that_the_data_cannot_give_is_refused_before_the_training(composed, objective, gives):
    plan = make_plan(composed(ACCURACY, f"objective={objective}"))
    if gives:
        plan.read_data()
        return
    with pytest.raises(
        InputError, match=rf"objective={objective}: nothing on this data set gives it.*train, 300K, 1200K"
    ):
        plan.read_data()


def test_a_checkpoint_of_other_data_is_refused(composed, tmp_path, files):
    data = tmp_path / "mine.xyz"
    data.write_text((files / "train.xyz").read_text())
    cfg = composed(f"dataset.train={data}")
    run(cfg, tmp_path / "run")
    frames = ase.io.read(data, ":")
    ase.io.write(data, frames[1:])
    with pytest.raises(InputError, match="data_checksum="):
        run(cfg, tmp_path / "run")


def test_a_finished_run_is_taken_where_resume_asks_for_it(composed, tmp_path):
    cfg = composed("resume=true")
    first = run(cfg, tmp_path / "a")
    start = start_of(cfg, tmp_path / "b")
    assert isinstance(start, Finished)
    assert run(cfg, tmp_path / "b") == first
    assert len(stored_runs(cfg.tracking.uri, cfg.tracking.experiment)) == 1
    assert not (tmp_path / "b").exists()
    assert isinstance(start_of(composed("resume=false"), tmp_path / "c"), Fresh)


def test_the_folder_of_a_finished_run_gives_its_numbers(composed, tmp_path, caplog):
    cfg = composed(ACCURACY, "trainer.checkpoint_every=5")  # more than its epochs: there is no last.ckpt
    caplog.set_level("INFO")
    first = run(cfg, tmp_path)
    stored = only_run(cfg)
    caplog.clear()
    assert run(composed(ACCURACY, "trainer.checkpoint_every=5", "trainer.threads=1"), tmp_path) == first
    assert only_run(cfg) == stored
    (line,) = [message for message in caplog.messages if "has finished before" in message]
    assert f"as run {stored.run_id}: validation/loss = " in line and "mlflow ui --backend-store-uri" in line
    assert type(start_of(composed(ACCURACY, "trainer.checkpoint_every=5", "trainer.resume=false"), tmp_path)) is Fresh


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("measurement.accuracy.max_atoms=50", r"measurement\.accuracy\.max_atoms=100 \(now 50\)"),
        ("objective=rmse_forces_1200K_meV_A", r"objective=validation/loss \(now rmse_forces_1200K_meV_A\)"),
        ("tracking.experiment=elsewhere", r"tracking\.experiment=.* \(now elsewhere\)"),
        ("trainer.plateau_patience=7", r"trainer\.plateau_patience=50 \(now 7\)"),
        ("trainer.max_epochs=1", r"trainer\.max_epochs=2 \(now 1\)"),
    ],
)
def test_a_finished_training_is_not_measured_twice_in_its_folder(composed, tmp_path, changed, told):
    cfg = composed(ACCURACY)
    run(cfg, tmp_path)
    stored = only_run(cfg)
    message = rf"has finished as run {stored.run_id}, with {told}; `mlip-measure {stored.run_id} .*measurement=…`"
    with pytest.raises(InputError, match=message):
        run(composed(ACCURACY, changed), tmp_path)
    assert only_run(cfg) == stored


def test_more_epochs_go_on_with_a_finished_training(composed, tmp_path):
    cfg = composed()
    run(cfg, tmp_path)
    start = start_of(composed("trainer.max_epochs=3"), tmp_path)
    assert (type(start), start.source, start.run_id) == (Resumed, tmp_path, None)
    run(composed("trainer.max_epochs=3"), tmp_path)
    _, longer = stored_runs(cfg.tracking.uri, cfg.tracking.experiment)
    assert longer.tags["weights"].endswith("of 3, averaging none")
    with pytest.raises(InputError, match=r"trainer\.max_epochs=3 \(now 2\)"):
        run(cfg, tmp_path)


def test_a_model_is_registered_once_and_said_to_be(composed, tmp_path, caplog):
    caplog.set_level("INFO")
    cfg = composed("tracking.register=pot")
    run(composed(), tmp_path)
    for _ in range(2):
        run(cfg, tmp_path)  # the run has finished; its model gets the name
    (line,) = [message for message in caplog.messages if message.startswith("registered model")]
    assert "pot, version 1, alias best" in line
    code = line.partition("load it by ")[2]
    loaded = eval(code, {"mlip_sweep": __import__("mlip_sweep")})
    assert np.isfinite(loaded.get_potential_energy(molecule("CH3CH2OH")))


def test_an_interrupted_trial_is_gone_on_with_in_another_folder(composed, tmp_path, lost):
    cfg = composed()
    patch = lost()
    with pytest.raises(LostNodeError):
        run(cfg, tmp_path / "old", parent_run_id="sweep")
    patch.undo()
    before = only_run(cfg)
    value = run(cfg, tmp_path / "new", parent_run_id="sweep", take_over=True)
    assert np.isfinite(value)
    old, new = sorted(stored_runs(cfg.tracking.uri, cfg.tracking.experiment), key=lambda one: one.started)
    assert (old.run_id, old.tags[SUPERSEDED]) == (before.run_id, new.run_id)
    assert new.tags["continues"] == before.run_id
    assert new.status == "FINISHED"
    other_data = start_of(composed("dataset.n_train=5"), tmp_path / "third", take_over=True)
    assert type(other_data) is Fresh


def test_what_a_folder_trains_follows_the_metrics_of_its_pruning(composed, tmp_path):
    """The callback of `pruning` records the cheap entropy beside the losses, and reports it to the trial."""
    heard = []
    learnt = 150  # epochs; before that there is no entropy to tell
    cfg = composed(
        f"trainer.max_epochs={learnt + 1}", "pruning=loss_entropy", f"pruning.every={learnt}", "pruning.directions=1"
    )
    run(cfg, tmp_path, trial=lambda value, step, *, more_is_better, told: heard.append((value, step, more_is_better)))
    ((value, step, more_is_better),) = heard
    assert (step, more_is_better) == (learnt, True)
    assert only_run(cfg).metrics["intermediate/loss_entropy"] == pytest.approx(value)
