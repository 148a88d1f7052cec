"""Documents keep their promises: links lead somewhere, commands compose, and the choices that they name exist."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from samples import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(mlip-sweep|mlip-measure) (.*?)(?:#.*)?$", re.MULTILINE)
GROUP = re.compile(
    r"(?:^| )'?\+?(model|dataset|rescaling|optimizer|averaging|loss|pruning|trainer|measurement|tracking)=(\S+)"
)
WRITTEN = [*DOCUMENTS, *sorted((ROOT / "conf").rglob("*.yaml")), *sorted((ROOT / "sweeps").glob("*.yaml"))]


def written_commands():
    """Arguments of every `mlip-sweep` that a document or the head of a config tells to type."""
    found: dict[tuple[str, ...], str] = {}
    for file in WRITTEN:
        text = re.sub(r"\\\n#? *", "", file.read_text())  # a command on one line
        if file.suffix == ".md":
            text = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        for line in re.findall(r"^(?:# +)?mlip-sweep(?: (.*))?$", text, re.MULTILINE):
            arguments = [word for word in shlex.split(line, comments=True) if word != "..."]
            if not {"--config-dir", "--cfg", "--help"} & set(arguments):  # a folder of the user's; nothing is run
                found.setdefault(tuple(arguments), f"{file.name}: {' '.join(arguments)}")
    return [pytest.param(arguments, id=where) for arguments, where in found.items()]


@pytest.fixture(scope="module")
def compose():
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()

        def compose(arguments):
            options = [argument for argument in arguments if argument.startswith("-")]
            (name,) = [option.partition("=")[2] for option in options if option.startswith("--config-name")] or ["run"]
            overrides = [argument for argument in arguments if argument not in options]
            return loader.load_configuration(name, overrides, RunMode.MULTIRUN, validate_sweep_overrides=False)

        yield compose


@pytest.mark.parametrize("arguments", written_commands())
def test_commands_compose(arguments, compose):
    assert compose(arguments).dataset


def anchors(document: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in LINK.findall(document.read_text()):
        if target.startswith(("http", "mailto")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_choices_that_commands_name_exist(document):
    for _, arguments in COMMAND.findall(document.read_text()):
        for group, choices in GROUP.findall(arguments):
            for choice in choices.strip("'").split(","):
                if choice.isidentifier() or choice[0].isdigit():
                    assert (ROOT / "conf" / group / f"{choice}.yaml").is_file(), f"{document.name}: {group}={choice}"
