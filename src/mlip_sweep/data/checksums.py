"""Checksums of files, by their bytes or as git names them, and of labelled frames."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlip_sweep.data.dataset import Dataset
from mlip_sweep.data.frames import Frame


def file_checksum(path: Path) -> str:
    """SHA-256 of the bytes of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def git_blob_id(path: Path) -> str:
    """The id under which git stores a file, in hexadecimal: SHA-1 of "blob SIZE", a zero byte, and the contents."""
    contents = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


def frames_checksum(frames: Sequence[Frame]) -> str:
    """SHA-256 over the atoms, cells, labels and weights of frames, in order; their origins and types do not count."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(len(frame).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(frame.atomic_numbers, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(frame.pbc, dtype=np.uint8).tobytes())
        for values in (frame.positions, frame.cell, frame.energy, frame.forces):
            digest.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
        if frame.stress is not None:
            digest.update(b"stress" + np.ascontiguousarray(frame.stress, dtype="<f8").tobytes())
        if frame.weight != 1.0:
            digest.update(b"weight" + np.ascontiguousarray(frame.weight, dtype="<f8").tobytes())
    return digest.hexdigest()


def data_checksum(dataset: Dataset) -> str:
    """One SHA-256 over every frame and label of every split: two runs that record the same one saw the same data."""
    digest = hashlib.sha256()
    splits = {"train": dataset.train, "train_clean": dataset.train_clean, "validation": dataset.validation}
    splits.update({f"tests.{label}": frames for label, frames in sorted(dataset.tests.items())})
    for name, frames in splits.items():
        digest.update(f"{name} {len(frames)} {frames_checksum(frames)}\n".encode())
    return digest.hexdigest()
