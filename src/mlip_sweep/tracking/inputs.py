"""The sets of frames of a run as MLflow's dataset inputs, which fill the column "Dataset" and can be searched for."""

import json
from collections.abc import Sequence
from typing import Any

from ase.data import chemical_symbols

from mlip_sweep.data.checksums import frames_checksum
from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame

CONTEXT = "mlflow.data.context"  # tag of an input: what the run used it for
DIGEST_CHARACTERS = 8  # as many as MLflow's own digests have
FIELDS = (("atomic numbers", "long"), ("positions, Å", "double"), ("energy, eV", "double"), ("forces, eV/Å", "double"))
STRESS_FIELD = ("stress, eV/Å³", "double")


def dataset_inputs(dataset: Dataset) -> list[dict[str, Any]]:
    """One input for the training frames, one for the validation frames, and one for each test set.

    Each is what MLflow's `Dataset` takes, under "dataset", and its "tags". The name of a test set has its label behind
    that of the data set. Contexts are "training", "validation" and "test"; the profile tells the number of frames and
    of atoms, and the elements.
    """
    sources = "; ".join(dataset.checksums)
    inputs = [
        _input(dataset.name, "training", dataset.train, sources),
        _input(dataset.name, "validation", dataset.validation, sources),
    ]
    return inputs + [_input(f"{dataset.name} {label}", "test", test, sources) for label, test in dataset.tests.items()]


def _input(name: str, context: str, frames: Sequence[Frame], sources: str) -> dict[str, Any]:
    elements = sorted({int(number) for frame in frames for number in frame.atomic_numbers})
    profile = {
        "frames": len(frames),
        "atoms": sum(map(len, frames)),
        "elements": " ".join(chemical_symbols[number] for number in elements),
    }
    fields = FIELDS if all(frame.stress is None for frame in frames) else (*FIELDS, STRESS_FIELD)
    values = {
        "name": name,
        "digest": frames_checksum(frames)[:DIGEST_CHARACTERS],
        "source_type": "local",
        "source": json.dumps({"uri": sources}),
        "schema": json.dumps({"mlflow_colspec": [{"name": field, "type": kind} for field, kind in fields]}),
        "profile": json.dumps(profile),
    }
    return {"dataset": values, "tags": {CONTEXT: context}}
