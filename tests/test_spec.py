"""The spec: what it accepts, and how it says no."""

from pathlib import Path

import pytest

from fairaudit.errors import UsageError
from fairaudit.spec import load_spec, parse_spec

MINIMAL = {"name": "x", "data": {"dataset": "utkface"}}


def test_minimal_spec_has_defaults() -> None:
    """A name and a data set are enough."""
    spec = parse_spec(MINIMAL)
    assert spec.audit.min_group_size == 30
    assert spec.data.duplicates == "test-only"


@pytest.mark.parametrize(
    ("change", "path", "near"),
    [
        ({"trainin": {}}, "trainin", "training"),
        ({"data": {"dataset": "utkface", "limt": 3}}, "data.limt", "limit"),
        ({"mitigations": [{"method": "reweighing", "by": "race", "capp": 2}]}, "mitigations.0.capp", "cap"),
        ({"data": {"dataset": "synthetic", "synthetic": {"biasses": []}}}, "data.synthetic.biasses", "biases"),
    ],
)
def test_unknown_key_is_an_error_with_its_path_and_the_nearest_name(change: dict, path: str, near: str) -> None:
    """No option is parsed and ignored."""
    with pytest.raises(UsageError) as error:
        parse_spec({**MINIMAL, **change})
    assert f"'{path}'" in str(error.value)
    assert f"did you mean '{near}'" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"split": {"train": 0.9, "val": 0.2}},
        {"audit": {"subgroups": ["race", "race"]}},
        {"audit": {"subgroups": ["race:"]}},
        {"audit": {"subgroups": ["race:race"]}},
        {"data": {"dataset": "merged"}},
        {"training": {"batch_size": 0}},
        {"mitigations": [{"method": "reweighing"}]},
    ],
)
def test_impossible_values_are_refused(change: dict) -> None:
    """What cannot be meant is said before anything runs."""
    with pytest.raises(UsageError):
        parse_spec({**MINIMAL, **change})


def test_missing_file_and_broken_toml_are_plain_errors(tmp_path: Path) -> None:
    """A path that is not there and a file that is no TOML end in a sentence, not a traceback."""
    with pytest.raises(UsageError, match="does not exist"):
        load_spec(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("name = ", encoding="utf-8")
    with pytest.raises(UsageError, match="cannot be read as TOML"):
        load_spec(broken)


def test_a_spec_survives_being_written_down() -> None:
    """The checkpoint's copy of a spec parses back into the same spec."""
    spec = parse_spec({**MINIMAL, "mitigations": [{"method": "reweighing", "by": "race"}]})
    assert parse_spec(spec.model_dump(mode="json")) == spec
