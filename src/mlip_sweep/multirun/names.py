"""What the jobs of a multirun are called: by what varies among them."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode

from mlip_sweep.multirun import folder

SIGNIFICANT_DIGITS = 4
NAME_CHARACTERS = 200
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


def varied(hydra_cfg: Any) -> list[str]:
    """The overrides of a job, without those that its whole sweep shares; of a single run, what it trains and how."""
    overrides = list(hydra_cfg.overrides.task)
    if hydra_cfg.mode == RunMode.MULTIRUN:
        constants = set(folder.shared(hydra_cfg).get("constants", []))
        return [override for override in overrides if _key(override) not in constants]
    choices = hydra_cfg.runtime.choices
    told = {group: choices[group] for group in ("model", "dataset") if group in choices}
    named = [f"{group}={choice}" for group, choice in told.items()]
    return named + [o for o in overrides if _key(o) not in told and not _key(o).startswith(LEFT_OUT)]


def run_name(overrides: Sequence[str]) -> str:
    """A name that says what varied: `model=mace, rescaling=none`; "defaults" where nothing did.

    Long numbers keep four significant digits; the parameters of the run hold them whole.
    """
    parts = []
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        parts.append(f"{key}={_short_number(value)}")
    name = ", ".join(parts) or "defaults"
    return name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"


def constants(overrides: Sequence[str]) -> list[str]:
    """Keys to which a multirun's command line gives one value; Hydra may write that value otherwise in its jobs."""
    parser = OverridesParser.create()
    return [_key(text) for text in overrides if not parser.parse_override(text).is_sweep_override()]


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _short_number(text: str) -> str:
    """A fraction with few digits; whole numbers, such as seeds, as they are."""
    try:
        short = f"{float(text):.{SIGNIFICANT_DIGITS}g}"
    except ValueError:
        return text
    return text if text.lstrip("-").isdigit() or len(text) <= len(short) else short
