"""The same road on a GPU: what it predicts there is what it predicts on the CPU."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fairaudit.data.parts import Part, faces_of
from fairaudit.data.predictions import read_predictions
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


@pytest.mark.gpu
@pytest.mark.parametrize("backbone", ["small_cnn", "mobilenet_v2"])
def test_compiled_training_and_prediction_on_cuda(
    tmp_path: Path, made: Callable[[str, str], Spec], backbone: str
) -> None:
    """Compiled steps learn what plain ones do, and a compiled network predicts what the plain one does."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    spec = made(backbone, "cuda")
    spec = spec.model_copy(update={"training": spec.training.model_copy(update={"compile": True})})
    faces = load_and_split(tmp_path, spec, silent)
    checkpoint = train(faces, spec, tmp_path / "checkpoint")
    assert checkpoint.meta["speed"]["compiled"], checkpoint.meta["notes"]
    assert not any("_orig_mod" in name for name in checkpoint.model.state_dict())
    plain = read_predictions(predict(checkpoint, faces, tmp_path / "plain.parquet", device="cuda"))
    compiled = read_predictions(predict(checkpoint, faces, tmp_path / "c.parquet", device="cuda", compile=True))
    assert compiled.meta["compiled"], compiled.meta["notes"]
    for column in ("gender_prob_Male", "gender_prob_Female"):
        np.testing.assert_allclose(compiled.frame[column], plain.frame[column], atol=1e-3)


@pytest.mark.gpu
def test_shards_on_cuda_are_the_whole_table(tmp_path: Path, made: Callable[[str, str], Spec]) -> None:
    """Parts predicted on a GPU with batches of one size hold the rows of one process."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    spec = made("small_cnn", "cuda")
    faces = load_and_split(tmp_path, spec, silent)
    checkpoint = train(faces, spec, tmp_path / "checkpoint")
    whole = pd.read_parquet(predict(checkpoint, faces, tmp_path / "whole.parquet", device="cuda", batch_size=16))
    parts = [
        pd.read_parquet(
            predict(checkpoint, faces_of(faces, Part(n, 2)), tmp_path / f"{n}.parquet", device="cuda", batch_size=16)
        )
        for n in (1, 2)
    ]
    joined = pd.concat(parts, ignore_index=True)
    assert list(joined["image"]) == list(whole["image"])
    np.testing.assert_allclose(joined["gender_prob_Male"], whole["gender_prob_Male"], atol=1e-3)
