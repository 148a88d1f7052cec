"""Whatever stands in a config, the plan of a run is made of it, or one line says what does not serve."""

from copy import deepcopy
from functools import cache
from typing import Any

from hydra import compose, initialize_config_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from samples import ROOT

from mlip_sweep.errors import InputError
from mlip_sweep.run.plan import make_plan

BARE = "measurement=none objective=validation/loss"  # the fewer entries there are, the more often each is changed
CONFIGS = (
    "averaging=ema pruning=validation_loss",
    f"{BARE} model=mace optimizer=sam averaging=swa loss=weight_cycle pruning=loss_entropy",
    f"{BARE} model=mace optimizer=muon dataset=aluminium_emt rescaling=isolated_atoms published=mace_v1_l3",
    f"{BARE} dataset=extxyz dataset.train=/dev/null optimizer=schedulefree trainer=cpu tracking=server",
)


@cache
def composed(overrides: str) -> Any:
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("run", overrides.split()))


@cache
def places(overrides: str) -> list[tuple[str, ...]]:
    """Where something stands in a composed config: groups, entries, values."""
    return sorted(paths(composed(overrides)))


def paths(entry: Any, above: tuple[str, ...] = ()) -> Any:
    for key, value in entry.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, 1, -1, 2, 3, 10, 10**6, 2**31, 2**63, 10**30]),
    st.floats(),
    st.sampled_from([0.0, -0.5, 0.5, 1.0, 1e-300, 1e300]),
)
words = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        [
            *("???", "${seed}", "${nothing}", "${oc.env:HOME}", "1e20", "nan", "~nobody/x", "*", "cpu", "gpu", "none"),
            *("os.system", "torch.optim.SGD", "mlip_sweep.models.mace.MACE", "mlip_sweep.config", "mlip_sweep..a", "."),
            *("mlip_sweep.models.rescaling.Rescaling", "mlip_sweep.training.averaging.ExponentialAverage"),
            *("mlip_sweep.measurement.accuracy.Accuracy", "mlip_sweep.data.datasets.extxyz", "loss_entropy"),
        ]
    ),
)
keys = st.one_of(
    st.text(max_size=4),
    st.sampled_from(["_target_", "_args_", "_partial_", "_convert_", "_recursive_", "lr", "dtype", "seed", "every"]),
    st.integers(-1, 3),
    st.none(),
    st.booleans(),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=5,
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A sound config with one to three places changed, added or removed."""
    overrides = draw(st.sampled_from(CONFIGS))
    config = deepcopy(composed(overrides))
    for _ in range(draw(st.integers(1, 3))):
        *above, key = draw(st.sampled_from(places(overrides)))
        entry = config
        for name in above:
            entry = entry.get(name) if isinstance(entry, dict) else None
        if not isinstance(entry, dict):
            continue  # another change has taken it away
        match draw(st.sampled_from(["change", "change", "change", "add", "remove"])):
            case "change":
                entry[key] = draw(values)
            case "add":
                entry[draw(keys)] = draw(values)
            case "remove":
                entry.pop(key, None)
    return config


@settings(max_examples=1000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(configs())
def test_a_plan_or_one_line(config):
    try:
        cfg = OmegaConf.create(config)
    except OmegaConfBaseException:
        return  # nothing that Hydra could have composed
    try:
        make_plan(cfg)
    except InputError as error:
        assert "\n" not in str(error)
