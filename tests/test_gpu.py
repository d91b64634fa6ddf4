"""The same road on a GPU: what it predicts there is what it predicts on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairaudit.inputs import load_and_split
from fairaudit.models.inference import predict
from fairaudit.models.training import train
from fairaudit.progress import silent
from fairaudit.spec import Spec, parse_spec


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str, str], Spec]:
    """Write 64 faces whose brightness goes with gender; return the maker of a spec for a backbone."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(64):
        pixels = rng.integers(0, 100, (64, 64, 3)) + 120 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "gender": ("Male", "Female")[i % 2], "race": "AB"[(i // 2) % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)

    def spec(backbone: str, device: str) -> Spec:
        return parse_spec(
            {
                "name": "gpu",
                "tasks": ["gender"],
                "data": {"dataset": "manifest", "manifest": "manifest.csv"},
                "model": {"backbone": backbone, "weights": "none", "image_size": 64},
                "training": {"epochs": 4, "batch_size": 16, "device": device},
            }
        )

    return spec


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", ["small_cnn", "mobilenet_v2"])
def test_training_and_prediction_on_cuda(tmp_path: Path, made: Callable[[str, str], Spec], backbone: str) -> None:
    """Training runs on the device; its predictions agree with the CPU's in float32."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    spec = made(backbone, "cuda")
    faces = load_and_split(tmp_path, spec, silent)
    checkpoint = train(faces, spec, tmp_path / "checkpoint")
    on = {d: pd.read_parquet(predict(checkpoint, faces, tmp_path / f"{d}.parquet", device=d)) for d in ("cuda", "cpu")}
    for column in ("gender_prob_Male", "gender_prob_Female"):
        np.testing.assert_allclose(on["cuda"][column], on["cpu"][column], atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", ["small_cnn", "simple_cnn", "mobilenet_v2"])
def test_deterministic_training_repeats_itself_on_cuda(
    tmp_path: Path, made: Callable[[str, str], Spec], backbone: str
) -> None:
    """With the flag the same seed gives the same model to the last bit."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    spec = made(backbone, "cuda")
    training = spec.training.model_copy(update={"deterministic": True, "cutmix": 1.0})
    spec = spec.model_copy(update={"training": training})
    faces = load_and_split(tmp_path, spec, silent)
    one, two = (train(faces, spec, tmp_path / name).model.state_dict() for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)
