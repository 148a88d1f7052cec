"""What may be compared with what: groups of runs measured alike, and the choices and seeds in each.

- A **group** holds runs that were measured on the same data, by the same measurements with the same settings. Only
  within a group are runs ranked.
- A **choice** is all that a config decides. Runs of a group whose configs differ by seeds alone are one choice.
- A **seed** names the initial weights and the order of batches. Runs of two choices with the same seed make a pair.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mlip_sweep.composition import TARGET, normalised_value
from mlip_sweep.config import group_settings
from mlip_sweep.tracking.read import StoredRun

# Parameters of a run, by the beginnings of their dotted names, that are no part of a choice: how it was run, …
HOW_IT_RAN = (
    "tracking",
    "objective",
    "resume",
    "packages",
    "pruning",
    "hydra",
    "trainer.accelerator",
    "trainer.threads",
    "trainer.progress",
    "trainer.resume",
    "trainer.compile",
    "trainer.max_atoms",
    "trainer.checkpoint_every",
    "dataset.cache",
    "dataset.folder",
    "dataset.verify",
)
# … and, by their ends, settings of measurements that change no number.
WITHOUT_EFFECT = ("progress", "cache", "max_atoms", "skin_A", "trajectory_every", "plane_points", "control_replicas")
TYPED = "trainer"  # this group is typed to say where to train
PUBLISHED = "published"  # this group chooses a model of the paper, and with it what other groups would say
OF_A_FILE = "model.sha256"  # of a potential that was not trained here: of its training, nothing else is known
MEASUREMENT = "measurement"
SOURCES = "data.sources"  # tag: a checksum and a name a line
SEED_OF_WEIGHTS, SEED_OF_ORDER = "seeds.model", "seeds.order"
SEPARATOR = " · "
VALUE_CHARACTERS = 32


def group_of(run: StoredRun) -> str:
    """A key that is the same for runs that were measured alike."""
    shas = sorted(line.split()[0] for line in run.tags.get(SOURCES, "").splitlines() if line.strip())
    data = shas or sorted(f"{k}={v}" for k, v in run.params.items() if k.split(".")[0] == "dataset")
    measured = {k: v for k, v in run.params.items() if k.startswith(f"{MEASUREMENT}.") and not _without_effect(k)}
    return _key([data, sorted(measured.items())])


def choice_of(params: Mapping[str, str]) -> dict[str, str]:
    """The part of a run's parameters that is its choice."""
    return {name: value for name, value in params.items() if not _is_no_choice(name)}


def without_later_defaults(params: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """The parameters of runs, without settings that a later version of the program has added and left as they are.

    Runs that were recorded before lack such a setting, which the files of their config groups have by now, and would be
    choices of their own. It is left out of every run that has it as those files, or a published model, say themselves.

    Args:
        params: of runs that are compared.
    """
    usual = [_settings_of_groups(one) for one in params]
    later = choice_of({name: "" for one, own in zip(params, usual, strict=True) for name in own.keys() - one.keys()})
    return [
        {name: value for name, value in one.items() if name not in later or not _is_as(own.get(name), value)}
        for one, own in zip(params, usual, strict=True)
    ]


def _settings_of_groups(params: Mapping[str, str]) -> dict[str, str]:
    """What the files of a run's config groups, and its published model, say by now."""
    found = {
        f"{group}.{setting}": value
        for group, chosen in params.items()
        if "." not in group and group != PUBLISHED
        for setting, value in group_settings(group, chosen).items()
    }
    return {**found, **group_settings(PUBLISHED, params.get(PUBLISHED, ""))}


def _is_as(usual: str | None, value: str) -> bool:
    return usual is not None and normalised_value(usual) == normalised_value(value)


def seed_of(params: Mapping[str, str]) -> str:
    """The seed of a run, as people write it: "0", or "1/0" where weights and order have different ones."""
    weights = params.get(SEED_OF_WEIGHTS, params.get("seed", "0"))
    order = params.get(SEED_OF_ORDER, weights)
    return weights if weights == order else f"{weights}/{order}"


def choice_key(params: Mapping[str, str]) -> str:
    """A key that is the same for runs of one choice."""
    return _key(sorted(choice_of(params).items()))


def labels(choices: Sequence[Mapping[str, str]]) -> list[str]:
    """A label for each choice by what tells it from the others, such as "mace · forces_rms · lr 0.01".

    Config groups (parameters without a dot) give their value alone. A setting below a group gives its name too, and is
    left out where it only follows from what was chosen for the group: `model.l_max` of a NequIP beside a MACE.

    Args:
        choices: as `choice_of` gives them, each another.
    """
    if not choices:
        return []
    shown = telling(choices)
    if not shown:
        return [choice.get(PUBLISHED) or choice.get("model", "all runs") for choice in choices]
    return [
        SEPARATOR.join(part for name in shown if (part := _part(name, choice.get(name)))) or "defaults"
        for choice in choices
    ]


def telling(choices: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of the parameters that tell choices apart, without those that only follow from the choice of a group."""
    return [name for name in _names(choices) if _tells_apart(name, choices)]


def differences(groups: Sequence[Mapping[str, str]]) -> list[str]:
    """What tells groups apart, in words: the settings of measurements and data that are not the same in all of them.

    Args:
        groups: parameters of one run of each.
    """
    names = sorted({name for params in groups for name in params})
    apart = [
        name
        for name in names
        if name.split(".")[0] in (MEASUREMENT, "dataset")
        and not _without_effect(name)
        and len({params.get(name) for params in groups}) > 1
    ]
    if not apart:
        return [f"data {place + 1}" for place in range(len(groups))]
    few = apart[:3] if "dataset" not in apart else ["dataset", *[n for n in apart if n.startswith(MEASUREMENT)][:2]]
    return [
        ", ".join(f"{name.removeprefix('measurement.')} {params[name]}" for name in few if name in params)
        or "without measurement"
        for params in groups
    ]


def _names(choices: Sequence[Mapping[str, str]]) -> list[str]:
    """Published models first, then the model, the other config groups and settings, in the order of configs."""
    names = list(dict.fromkeys(name for choice in choices for name in choice))
    return sorted(names, key=lambda name: (name != PUBLISHED, name != "model", "." in name))


def _tells_apart(name: str, choices: Sequence[Mapping[str, str]]) -> bool:
    """Whether a parameter differs between choices that are alike in the group that would decide it."""
    deciding = [PUBLISHED] if name == "model" else [PUBLISHED, OF_A_FILE]
    if "." in name:
        deciding.append(name.split(".")[0])
    values: dict[tuple[str | None, ...], set[str | None]] = {}
    for choice in choices:
        decided_by = tuple(choice.get(group) for group in deciding if group != name)
        values.setdefault(decided_by, set()).add(choice.get(name))
    return any(len(of_one) > 1 for of_one in values.values())


def _part(name: str, value: str | None) -> str:
    if value is None:
        return ""
    if name.endswith(f".{TARGET}"):
        return value.rpartition(".")[2]  # a class stands for itself
    short = value if len(value) <= VALUE_CHARACTERS else value[: VALUE_CHARACTERS - 1] + "…"
    with suppress(ValueError):
        short = value if value.lstrip("-").isdigit() else f"{float(value):.4g}"
    if "." not in name:
        return short if short != "none" else f"no {name}"
    return f"{name.rpartition('.')[2]} {short}"


def _is_no_choice(name: str) -> bool:
    parts = name.split(".")
    if parts[0] == "seed" or parts[0] == "seeds" or parts[-1] == "seed" or name == TYPED:
        return True
    return parts[0] == MEASUREMENT or any(name == start or name.startswith(f"{start}.") for start in HOW_IT_RAN)


def _without_effect(name: str) -> bool:
    return name.rpartition(".")[2] in (*WITHOUT_EFFECT, "seed")


def _key(content: Sequence[object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
