"""Training in two processes: the model of one process, one checkpoint, clear words where it cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_faces import make_faces, make_spec, small_weights

from fairaudit.errors import UsageError
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.losses import Target, loss_of
from fairaudit.models.parallel import Team, check_batch, own_device
from fairaudit.models.training import train

FROZEN = {
    "model__weights": "small.pt",
    "model__trainable_blocks": 2,
    "model__dropout": 0.0,
    "model__shared": 0,  # a shared layer has a batch norm, which would see half a batch in each process
    "training__head_epochs": 2,
    "training__epochs": 3,
    "training__batch_norm": "frozen",
}
SCRIPT = """
import sys
from pathlib import Path
import torch
from tiny_faces import make_faces, make_spec, small_weights
from fairaudit.models import compiling
from fairaudit.models.training import train
torch.set_num_threads(1)
compiling.BACKEND = "{backend}"
folder = Path(sys.argv[1])
train(make_faces(folder / "faces"), make_spec(**{changes}), folder / "two", weights_folders=(folder,))
"""


def in_two(folder: Path, changes: dict[str, object], backend: str = "inductor") -> subprocess.CompletedProcess[str]:
    """Train in two processes that torchrun starts, on the CPU."""
    script = folder / "script.py"
    script.write_text(SCRIPT.replace("{changes}", repr(changes)).replace("{backend}", backend))
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}", "OMP_NUM_THREADS": "1"}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script), str(folder)]
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_the_model_of_one(tmp_path: Path, compiled: bool) -> None:
    """With frozen batch norms losses and logits agree with those of one process, also where the two compile their
    steps; nothing else is left on disk.
    """
    small_weights(tmp_path)
    one = train(make_faces(tmp_path / "faces"), make_spec(**FROZEN), tmp_path / "one", weights_folders=(tmp_path,))
    done = in_two(tmp_path, {**FROZEN, "training__compile": compiled}, "aot_eager")
    assert done.returncode == 0, done.stderr[-2000:]
    two = load_checkpoint(tmp_path / "two")
    assert two.meta["speed"]["compiled"] == compiled
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = [made.model.eval()(x) for made in (one, two)]
    for task, values in logits[
        0
    ].items():  # weights whose gradient is next to nothing may differ: Adam moves by its sign
        np.testing.assert_allclose(logits[1][task], values, atol=2e-3)
    for column in ("train_loss", "val_loss"):
        np.testing.assert_allclose(two.history[column], one.history[column], rtol=1e-3)
    assert not list(tmp_path.glob("*.training"))


def test_shares_of_a_batch_add_up_to_its_loss() -> None:
    """Masked labels and weights included: the loss of a batch is the sum of its shares' losses."""
    draw = torch.Generator().manual_seed(0)
    codes = torch.tensor([0, 1, 2, -1, 1, 0, -1, 2, 2])
    target = Target(codes=codes, weights=torch.rand(9, generator=draw) + 0.5, soft=torch.eye(3), share=2.0)
    logits, batch = torch.randn(9, 3, generator=draw), torch.arange(9)
    whole = loss_of({"t": logits}, {"t": target}, batch)
    parts = [torch.from_numpy(Team(rank, 2).share(np.arange(9))) for rank in (0, 1)]
    assert sorted(torch.cat(parts).tolist()) == list(range(9))
    summed = sum(loss_of({"t": logits[rows]}, {"t": target}, rows, batch) for rows in parts)
    torch.testing.assert_close(summed, whole)


def test_what_cannot_be_shared_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Batches too small for all processes, more processes than GPUs, and forests are refused in words."""
    with pytest.raises(UsageError, match="batches of 6 faces are too small for 4 processes"):
        check_batch(6, Team(0, 4))
    check_batch(8, Team(0, 4))
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="more processes than there are GPUs"):
        own_device(torch.device("cuda"))
    assert own_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    forest = make_spec(model={"backbone": "pca-random-forest"}, training={})
    with pytest.raises(UsageError, match="without torchrun"):
        train(make_faces(tmp_path), forest, tmp_path / "c")
