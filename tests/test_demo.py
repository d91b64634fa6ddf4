"""The demo, whole: every bias that was planted for certain is found, in the subgroup it was planted in."""

import json
from pathlib import Path

import pytest

from fairaudit.inputs import find_spec
from fairaudit.pipeline import Run, run_demo


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_finds_what_was_planted(tmp_path: Path, seed: int) -> None:
    """Each of the four biases is found where it is; nothing is claimed of the group that was left alone."""
    spec = find_spec(Path("demo"))[0].model_copy(update={"seed": seed})
    index, verdicts = run_demo(Run(spec=spec, root=tmp_path / "faces", out=tmp_path))
    certain = [line for line in verdicts if line["certain"]]
    assert {line["kind"] for line in certain} == {"under_representation", "label_noise", "low_quality", "spurious_cue"}
    assert all(line["found"] for line in certain), [line["verdict"] for line in certain if not line["found"]]
    assert not any("Elm" in json.dumps(line["where"]) for line in verdicts)
    assert index.exists()
    assert not (tmp_path / "cache").exists(), "decoded faces must not stay in a folder that is shared"
