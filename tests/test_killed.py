"""Commands as a user types them, ended by SIGKILL in the middle: nothing half-written, and the next call ends well."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny_faces import make_faces

ROOT = Path(__file__).parents[1]
SPEC = """
name = "tiny"
tasks = ["gender", "race"]
[data]
dataset = "manifest"
[split]
train = 0.6
val = 0.2
[model]
backbone = "small_cnn"
image_size = 32
shared = 16
[training]
epochs = 4
batch_size = 12
precision = "fp32"
device = "cpu"
[attribution]
faces_per_head = 4
steps = 8
sanity = "none"
"""
# a process that kills itself as soon as `stage` has done `least` steps, as `kill -9` from outside would
KILLED = """
import os, signal, sys
from fairaudit import cli, console

stage, least = sys.argv[1], int(sys.argv[2])

class Killing(console.Bars):
    def __call__(self, name, done, total, note=""):
        if total and name.startswith(stage) and done >= least:
            os.kill(os.getpid(), signal.SIGKILL)

if rows := int(sys.argv[3]):  # so many are worth keeping
    from fairaudit.models import inference
    inference.ROW_GROUP = rows
console.Bars = Killing
sys.argv = ["fairaudit", *sys.argv[4:]]
cli.main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sixty faces and a spec."""
    folder = tmp_path_factory.mktemp("killed")
    table = make_faces(folder / "faces")
    table.frame[["image", "gender", "race"]].to_csv(folder / "faces" / "manifest.csv", index=False)
    (folder / "tiny.toml").write_text(SPEC, encoding="utf-8")
    return folder


def fairaudit(folder: Path, *words: str, kill: tuple[str, int] | None = None, rows: int = 0) -> int:
    """Run a command in `folder` and return how it ended."""
    start = ["-c", KILLED, kill[0], str(kill[1]), str(rows)] if kill else ["-m", "fairaudit"]
    done = subprocess.run(
        [sys.executable, *start, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


@pytest.mark.slow
def test_killed_commands_go_on(folder: Path) -> None:
    """train, predict and attribute: absent after the kill, then equal to those of a call that nobody disturbed."""
    with_data = ["--data", "faces"]
    train = ["train", "tiny.toml", *with_data, "--out"]
    assert fairaudit(folder, *train, "whole") == 0
    assert fairaudit(folder, *train, "cut", kill=("train", 2)) == -signal.SIGKILL
    assert not (folder / "cut").exists() and (folder / "cut.training").exists()
    assert fairaudit(folder, *train, "cut") == 0
    for name in ("model.safetensors", "trained_on.json"):
        assert (folder / "cut" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert not (folder / "cut.training").exists()

    predict = ["predict", "whole", *with_data, "--split", "all", "--out"]
    assert fairaudit(folder, *predict, "whole.parquet") == 0
    assert fairaudit(folder, *predict, "cut.parquet", kill=("predict", 16)) == -signal.SIGKILL
    assert not (folder / "cut.parquet").exists() and list(folder.glob(".cut.parquet.*"))
    assert fairaudit(folder, *predict, "cut.parquet") == 0
    tables = [pq.read_table(folder / name).replace_schema_metadata() for name in ("cut.parquet", "whole.parquet")]
    assert tables[0].equals(tables[1])
    assert not list(folder.glob(".cut.parquet.*"))

    attribute = ["attribute", "whole", *with_data, "--split", "all", "--out"]
    assert fairaudit(folder, *attribute, "whole-maps") == 0
    assert fairaudit(folder, *attribute, "cut-maps", kill=("attribute", 2)) == -signal.SIGKILL
    assert not (folder / "cut-maps").exists() and list((folder / "cut-maps.attributing").glob("*/*.npz"))
    assert fairaudit(folder, *attribute, "cut-maps") == 0
    for name in ("attribution.csv", "regions.csv"):
        pd.testing.assert_frame_equal(
            pd.read_csv(folder / "cut-maps" / name), pd.read_csv(folder / "whole-maps" / name)
        )
    assert not (folder / "cut-maps.attributing").exists()
