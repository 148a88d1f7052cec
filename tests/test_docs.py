"""Documents keep their promises: links lead somewhere, and the choices and settings that they name exist."""

import re
from pathlib import Path

import pytest
from samples import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(mlip-sweep|mlip-measure) (.*?)(?:#.*)?$", re.MULTILINE)
GROUP = re.compile(
    r"(?:^| )'?\+?(model|dataset|rescaling|optimizer|averaging|loss|pruning|trainer|measurement|tracking)=(\S+)"
)


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
