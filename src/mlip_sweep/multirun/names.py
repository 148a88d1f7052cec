"""What the jobs of a multirun are called: by what varies among them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from mlip_sweep.composition import TARGET
from mlip_sweep.multirun import folder
from mlip_sweep.tracking.read import SEPARATOR

SIGNIFICANT_DIGITS = 4
NAME_CHARACTERS = 200
FIRST = (
    "published",
    "model",
    "dataset",
    "rescaling",
    "optimizer",
    "averaging",
    "loss",
)  # choices in this order, others after them
SEED, SEEDS = "seed", "seeds."
DATA_FILE = "dataset.train"  # says more than the choice dataset=extxyz, which reads it
LEFT_OUT = (
    "dataset.",
    "measurement",
    "tracking",
    "trainer.progress",
    "trainer.threads",
    "trainer.resume",
    "objective",
    "resume",
)


def run_name(hydra_cfg: Any) -> str:
    """A name that says what varies: `mace · no rescaling · swa · lr 0.003173 · s0`.

    The chosen config of a group stands for itself, a plain setting has its key before it, as short as it can be told
    from the others, and seeds come last. Long numbers keep four significant digits; the parameters of the run hold them
    whole. Where nothing varies, the name tells model and data set.

    Args:
        hydra_cfg: `HydraConfig.get()` of a job.
    """
    groups = choices(hydra_cfg)
    told = dict(map(_split, varied(hydra_cfg))) or _potential_and_data(groups)
    name = SEPARATOR.join(_parts(told, groups)) or "defaults"
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def varied(hydra_cfg: Any) -> list[str]:
    """The overrides of a job, without those that its whole sweep shares; of a single run, what it trains and how.

    Args:
        hydra_cfg: `HydraConfig.get()` of a job.
    """
    overrides = list(hydra_cfg.overrides.task)
    if hydra_cfg.mode == RunMode.MULTIRUN:
        constants = set(folder.shared(hydra_cfg).get("constants", []))
        return [override for override in overrides if _split(override)[0] not in constants]
    told = _potential_and_data(choices(hydra_cfg))
    files = [value for key, value in map(_split, overrides) if key == DATA_FILE]
    if files:
        told["dataset"] = _shown(files[-1])
    named = [f"{group}={choice}" for group, choice in told.items()]
    others = [text for text in overrides if _split(text)[0] not in told]
    return named + [text for text in others if not _split(text)[0].startswith(LEFT_OUT)]


def _potential_and_data(groups: Mapping[str, str]) -> dict[str, str]:
    """The choices that say what is trained on what; a published model says more than its size."""
    potential = "published" if "published" in groups else "model"
    return {group: groups[group] for group in (potential, "dataset") if group in groups}


def varied_keys(hydra_cfg: Any) -> list[str]:
    """Keys of what varies in a multirun, in the order in which names tell it.

    Args:
        hydra_cfg: The entry `hydra` of the multirun's config.
    """
    space = [f"{key}={value}" for key, value in (hydra_cfg.sweeper.get("params") or {}).items()]
    overrides = [*space, *hydra_cfg.overrides.task]
    # Of one key the last counts.
    sweeps = {_split(text)[0]: one.is_sweep_override() for text, one in zip(overrides, parsed(overrides), strict=True)}
    return sorted((key for key, is_varied in sweeps.items() if is_varied), key=_place)


def choices(hydra_cfg: Any) -> dict[str, str]:
    """The chosen config of each group, such as {"model": "mace", "averaging": "none"}; Hydra's own are left out.

    Args:
        hydra_cfg: `HydraConfig.get()`, or the entry `hydra` of a whole config.
    """
    chosen = hydra_cfg.runtime.choices
    return {str(group): str(chosen[group]) for group in chosen if chosen[group] and not group.startswith("hydra/")}


def constants(overrides: Sequence[str]) -> list[str]:
    """Keys to which a multirun's command line gives one value; Hydra may write that value otherwise in its jobs."""
    return [
        _split(text)[0]
        for text, override in zip(overrides, parsed(overrides), strict=True)
        if not override.is_sweep_override()
    ]


def parsed(overrides: Sequence[str]) -> list[Override]:
    """Overrides as Hydra understands them; `glob(…)` looks into the config groups of the command that is at work."""
    command = GlobalHydra.instance()
    loader = command.config_loader() if command.is_initialized() else None
    return OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))


def _split(override: str) -> tuple[str, str]:
    """Key and value of an override such as `+optimizer.lr=0.01`; what is removed has the value "none"."""
    key, _, value = override.lstrip("+~").partition("=")
    return key, "none" if override.startswith("~") else value.strip("'\"")


def _place(key: str) -> tuple[int, int]:
    """Sorts keys: known choices, other keys, seeds."""
    is_seed = key == SEED or key.startswith(SEEDS)
    return (2, 0) if is_seed else (0, FIRST.index(key)) if key in FIRST else (1, "." in key)


def _parts(told: dict[str, str], groups: Iterable[str]) -> list[str]:
    short = _short_keys(key for key in told if key not in groups)
    parts = []
    for key in sorted(told, key=_place):
        value = _shown(told[key])
        if key == SEED:
            parts.append(f"s{value}")
        elif key.startswith(SEEDS):
            parts.append(f"{short[key]} s{value}")
        elif key.endswith(f".{TARGET}"):
            parts.append(told[key].rpartition(".")[2])  # a class stands for itself
        elif key not in groups:
            parts.append(f"{short[key]} {value}")
        else:
            parts.append(f"no {key}" if value == "none" else value)  # two groups may both have a choice called none
    return parts


def _short_keys(keys: Iterable[str]) -> dict[str, str]:
    """For each dotted key its last part, and as many before it as tell it from the others."""
    split = {key: key.split(".") for key in keys}
    short = {}
    for key, parts in split.items():
        ends = (parts[-n:] for n in range(1, len(parts)))
        alone = (end for end in ends if sum(other[-len(end) :] == end for other in split.values()) == 1)
        short[key] = ".".join(next(alone, parts))
    return short


def _shown(text: str) -> str:
    """A value as a name shows it: a fraction with few digits, a file by its stem, all else as it is."""
    try:
        short = f"{float(text):.{SIGNIFICANT_DIGITS}g}"
    except ValueError:
        return PurePath(text).stem if PurePath(text).suffix.lstrip(".").isalpha() else text
    return text if text.lstrip("-").isdigit() or len(text) <= len(short) else short
