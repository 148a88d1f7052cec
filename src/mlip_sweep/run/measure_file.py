"""Measure a potential that exists already, in the file of its own library: a run beside those trained here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from mlip_sweep import clock
from mlip_sweep.config import parse
from mlip_sweep.data.checksums import data_checksum, file_checksum
from mlip_sweep.data.sources import check_sources
from mlip_sweep.errors import InputError
from mlip_sweep.measurement.chosen import check_measurements, measurements_of
from mlip_sweep.metrics import wall_time
from mlip_sweep.models import library_files
from mlip_sweep.run.plan import checked_call
from mlip_sweep.run.remeasure import composed, measure_on
from mlip_sweep.tracking.run import flatten, record
from mlip_sweep.training.metrics import PARAMETERS

GROUPS = ("dataset", "measurement", "seeds")  # of a config, what a measurement depends on


def measure_file(
    file: Path,
    library: str,
    overrides: Sequence[str],
    *,
    uri: str,
    experiment: str,
    device: str = "cpu",
    compiled: bool = False,
) -> dict[str, float]:
    """Measure the potential of a library's own file, and record the numbers as a run.

    Args:
        file: of the potential; opening it runs what code it holds.
        library: that wrote it, "mace" or "nequip".
        overrides: of the config groups `dataset`, `measurement` and `seeds`.
        uri: MLflow store, which is made where there is none.
        experiment: that the run is filed under.
        device: "cpu" or "cuda".
        compiled: by torch.compile, before anything is measured.

    Returns:
        The metrics.

    Raises:
        InputError: the file, the data or an override does not serve.
    """
    cfg, choices = measured_config(overrides)
    measurements = measurements_of(cfg)
    read_data = checked_call(cfg.dataset, "dataset")
    model = library_files.read(file, library, device=device)
    begin = clock.now()
    dataset = read_data()
    checksum, seconds = data_checksum(dataset), clock.now() - begin
    check_measurements(measurements, dataset)
    model.check_elements(dataset.atomic_numbers, "dataset")
    chosen = {name: OmegaConf.to_container(cfg[name], resolve=True) for name in GROUPS}
    described: dict[str, Any] = {
        "library": library,
        "file": str(file),
        "sha256": file_checksum(file),
        "cutoff": model.cutoff,
        "dtype": model.precision,
    }
    with record(
        uri=uri,
        experiment=experiment,
        name=file.name,
        params={**flatten({**chosen, "model": described}), **choices, "model": file.name},
        tags={"weights": f"of {file}"},
        folder=Path.cwd(),
    ) as rec:
        rec.config(OmegaConf.to_yaml(OmegaConf.create({**chosen, "model": described})))
        rec.metrics({PARAMETERS: sum(p.numel() for p in model.parameters()), wall_time("data"): seconds})
        return measure_on(rec, dataset, checksum, measurements, model, name=file.name, compiled=compiled)


def file_overrides(train: str | None, tests: Sequence[str]) -> list[str]:
    """The overrides of `dataset` for files of a user's own.

    Args:
        train: file of the training frames; None where the overrides name a data set.
        tests: "LABEL=FILE" for each test set.

    Raises:
        InputError: a test set is no such pair, or is given without training frames.
    """
    if train is None:
        if tests:
            raise InputError(f"--test {tests[0]}: give the frames that it was trained on too, by --train FILE")
        return []
    pairs = [test.partition("=") for test in tests]
    for label, equals, file in pairs:
        if not (label and equals and file):
            raise InputError(f"--test {label}{equals}{file}: give LABEL=FILE, such as 600K=b.xyz")
    sets = ", ".join(f"{label}: {_quoted(file)}" for label, _, file in pairs)
    return ["dataset=extxyz", f"dataset.train={_quoted(train)}", *([f"dataset.tests={{{sets}}}"] if sets else [])]


def measured_config(overrides: Sequence[str]) -> tuple[DictConfig, Mapping[str, str]]:
    """The config of a measurement, and the names of the chosen configs of its groups.

    Raises:
        InputError: an override is of another group, or does not compose.
    """
    if not any(override.startswith("dataset=") for override in overrides):
        raise InputError("--model: say what it was trained on, by --train FILE or dataset=NAME")
    for override in overrides:
        if not override.lstrip("~+").startswith(GROUPS):
            raise InputError(
                f"{override}: a model of a file is measured, not trained; write overrides of {', '.join(GROUPS)}, such "
                "as measurement=paper or dataset.temperature=300"
            )
    cfg = composed(overrides)
    parse(cfg)
    check_sources(cfg.dataset)
    choices = cfg.hydra.runtime.choices
    return cfg, {name: str(choices[name]) for name in ("dataset", "measurement")}


def _quoted(text: str) -> str:
    """A text as a value of an override, whatever characters it has."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
