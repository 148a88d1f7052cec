"""The data of a run, as MLflow's column "Dataset" and its searches know it."""

import json
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from samples import ethanol_frames
from sqlalchemy import event
from sqlalchemy.orm import Session

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.tracking import store
from mlip_sweep.tracking.inputs import dataset_inputs
from mlip_sweep.tracking.outbox import _input
from mlip_sweep.tracking.run import record

FRAMES = ethanol_frames(6)
DATA = Dataset(
    name="ethanol",
    train=FRAMES[:3],
    validation=FRAMES[3:4],
    tests={"300K": FRAMES[4:5], "1200K": FRAMES[4:]},
    train_clean=FRAMES[:3],
    checksums={"train.xyz": "0" * 64, "hot.xyz": "1" * 64},
)


def inputs_of(uri, run_id):
    """Context, name and dataset of each input."""
    found = store.client(uri).get_run(run_id).inputs.dataset_inputs
    return {(one.tags[0].value, one.dataset.name): one.dataset for one in found}


def test_each_set_of_frames_is_an_input_of_its_run(uri):
    with record(uri=uri, experiment="inputs", name="run") as rec:
        rec.describe_data(DATA, "checksum")
        rec.describe_data(DATA, "checksum")  # as a run does that is gone on with
    inputs = inputs_of(uri, rec.run_id)
    assert next(iter(inputs)) == ("training", "ethanol")  # the only one that the column shows
    profiles = {key: json.loads(dataset.profile) for key, dataset in inputs.items()}
    assert {key: profile["frames"] for key, profile in profiles.items()} == {
        ("training", "ethanol"): 3,
        ("validation", "ethanol"): 1,
        ("test", "ethanol 300K"): 1,
        ("test", "ethanol 1200K"): 2,
    }
    assert profiles["training", "ethanol"] == {"frames": 3, "atoms": 27, "elements": "H C O"}
    assert json.loads(inputs["training", "ethanol"].source) == {"uri": "train.xyz; hot.xyz"}


@contextmanager
def just_before(write):
    """In between a look into the store and what is written after it, something else is written."""
    done = []

    def come_first(*_):
        if not done:
            done.append(True)
            write()

    event.listen(Session, "before_flush", come_first)
    yield
    event.remove(Session, "before_flush", come_first)
    assert done


def test_another_run_may_record_the_same_data_at_the_same_moment(uri):
    client = store.client(uri)
    other = client.create_run(store.experiment_id(uri, "same moment")).info.run_id
    inputs = [_input(one) for one in dataset_inputs(DATA)]
    with (
        record(uri=uri, experiment="same moment", name="run") as rec,
        just_before(lambda: client.log_inputs(other, inputs)),
    ):
        rec.describe_data(DATA, "checksum")
    assert {key: data.digest for key, data in inputs_of(uri, rec.run_id).items()} == {
        key: data.digest for key, data in inputs_of(uri, other).items()
    }
    assert client.get_run(rec.run_id).info.status == "FINISHED"


def test_two_runs_may_tag_their_new_experiment_at_the_same_moment(uri):
    client = store.client(uri)
    experiment_id = client.create_experiment("tagged twice")
    with just_before(lambda: client.set_experiment_tag(experiment_id, store.KIND, store.TRAINING)):
        assert store.experiment_id(uri, "tagged twice") == experiment_id


def test_a_schema_tells_of_stresses_where_frames_have_them():
    some = replace(DATA, train=[FRAMES[0], replace(FRAMES[1], stress=np.eye(3))])
    fields = [
        {field["name"] for field in json.loads(one["dataset"]["schema"])["mlflow_colspec"]}
        for one in dataset_inputs(some)
    ]
    assert ["stress, eV/Å³" in names for names in fields] == [True, False, False, False]


def test_the_same_frames_are_the_same_data_in_every_run(uri):
    digests = []
    for dataset in (DATA, DATA, replace(DATA, train=FRAMES[:2])):
        with record(uri=uri, experiment="digests", name="run") as rec:
            rec.describe_data(dataset, "checksum")
        digests.append(inputs_of(uri, rec.run_id)["training", "ethanol"].digest)
    assert digests[0] == digests[1] != digests[2]
    found = store.client(uri).search_runs(
        [rec.experiment_id], f"dataset.digest = '{digests[0]}' AND dataset.context = 'training'"
    )
    assert len(found) == 2
