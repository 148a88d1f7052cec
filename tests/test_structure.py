"""The house: imports run one way, and libraries are imported where they belong."""

import ast
from pathlib import Path

import pytest
from samples import ROOT

SOURCE = ROOT / "src" / "mlip_sweep"
LIBRARY = ROOT / "src" / "optuna_async"
PLUGINS = ROOT / "src" / "hydra_plugins"
# Each room may import the ones before it, and itself.
ORDER = [
    *(
        "errors",
        "bars",
        "clock",
        "metrics",
        "settings",
        "composition",
        "config",
        "data",
        "models",
        "training",
        "measurement",
        "tracking",
        "comparison",
    ),
    *("multirun", "run", "commands", "cli"),
]
AT_HOME = {
    "nequip": {"models/nequip.py", "models/nequip_file.py", "models/allegro.py"},
    "allegro": {"models/allegro.py"},
    "mace": {"models/mace.py", "models/mace_file.py"},
    "graph_pes": {"models/graph_pes_blocks.py", "models/painn.py", "models/schnet.py", "models/tensornet.py"},
    "e3nn": {"models/mace.py", "models/mace_file.py", "models/e3nn_options.py"},
    "torch_sim": {"models/torch_sim_model.py"},
    "tblite": {"data/reference.py"},
    "sevenn": {"data/trained_methods.py"},
    "chgnet": {"data/trained_methods.py"},
    "mlflow": {"tracking/"},
    "optuna": set(),  # it is at home in optuna_async
    "lightning": set(),  # pytorch_lightning everywhere; their classes are not the same
}
FILES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


def room(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def test_every_module_has_its_place():
    assert {room(p) for p in FILES} == {*ORDER, "__init__"}


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in ORDER], ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_one_way(path):
    allowed = ORDER[: ORDER.index(room(path)) + 1]
    own = {name.split(".")[1] for name in imports(path) if name.startswith("mlip_sweep.")}
    assert own <= set(allowed), f"{path} imports {sorted(own - set(allowed))}, which stand to its right"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_libraries_stay_at_home(path):
    here = path.relative_to(SOURCE).as_posix()
    for library in {name.split(".")[0] for name in imports(path)} & set(AT_HOME):
        assert any(here.startswith(home) for home in AT_HOME[library]), f"{here} imports {library}"


@pytest.mark.parametrize("path", sorted(LIBRARY.rglob("*.py")), ids=lambda p: p.name)
def test_the_sweeper_knows_nothing_of_the_program(path):
    assert not {name for name in imports(path) if name.split(".")[0] in ("mlip_sweep", "mlflow")}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda p: str(p.relative_to(PLUGINS)))
def test_what_hydra_scans_is_light(path):
    assert not {name for name in imports(path) if name.split(".")[0] in AT_HOME}


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "tracking"], ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_tracking_calls_the_client_of_mlflow(path):
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    assert not [ast.unparse(node) for node in nodes if node.attr in ("client", "_client")]
    assert "mlip_sweep.tracking.store.client" not in imports(path)
