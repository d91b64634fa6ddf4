"""The specs that users run: each loads, says what it asks, and names nothing outside its own folder."""

import re
import tomllib
from pathlib import Path

import pytest

from fairaudit.resources import resource_dir
from fairaudit.spec import load_spec
from fairaudit.subgroups import parse

SPECS = sorted(resource_dir("audits").glob("*.toml"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_every_spec_loads_and_says_what_it_asks(path: Path) -> None:
    """A spec in audits/ is valid, begins with a comment that asks its question, and carries it for the report."""
    spec = load_spec(path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert re.search(r"\?", text.split("\n\n")[0])
    assert spec.question.strip()
    assert spec.audit.subgroups or spec.data.dataset == "synthetic"


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_no_spec_names_a_path_outside_its_folder(path: Path) -> None:
    """Weights, folders and manifests are names, neither absolute paths nor ones that climb out."""

    def strings(value: object) -> list[str]:
        if isinstance(value, dict):
            return [text for inner in value.values() for text in strings(inner)]
        if isinstance(value, list):
            return [text for inner in value for text in strings(inner)]
        return [value] if isinstance(value, str) else []

    for text in strings(tomllib.loads(path.read_text(encoding="utf-8"))):
        assert not Path(text).is_absolute()
        assert ".." not in Path(text).parts


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_no_mitigation_reweighs_a_head_by_its_own_attribute(path: Path) -> None:
    """Reweighing a head over an axis with its own attribute collapses to P(label), so no spec names such a head."""
    for entry in load_spec(path).mitigations:
        for task in entry.tasks or ():
            if entry.method == "reweighing":
                assert task not in parse(entry.by)


def test_the_real_data_specs_are_there() -> None:
    """The three specs on real faces that the README names."""
    assert {"utkface", "fairface", "utkface-fairface-merged"} <= {path.stem for path in SPECS}
