"""Faces a CPU second from JPEG files to classes: `predict` against a plain loop, its own network, onnxruntime.

    python benchmarks/inference.py [--faces 500] [--backbone mobilenet_v2] [--size 128] [--data ../shared/faces/utkface]
        [--sides forward,predict] [--rounds 1]

Sides, each in a process of its own because one that keeps freed memory would speed up the next, one after
the other, as many times as there are rounds, in one thread:
`eager`: PIL, torchvision's v1 transforms, DataLoader, the network as it was trained, float32; `forward`: the network of
`predict` alone on decoded faces in memory; `predict`: files to table; `cached`: the same from a full cache;
`onnxruntime`: the exported network alone on prepared faces. A side whose classes differ from those of `eager` is
named with the share that is equal. `predict` is asked about the first tenth of the faces, too: what the others take
beyond it has no start in it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from faces import CLASSES, some_faces
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.inference import predict
from fairaudit.models.pixels import load_face
from fairaudit.models.runtime import keep_freed_memory
from fairaudit.spec import ModelSpec

BATCH = 32
SIDES = ("eager", "forward", "predict", "cached", "onnxruntime")
Work = Callable[[], dict[str, np.ndarray]]


class Files(Dataset):
    """The faces as anybody's first loop reads them."""

    def __init__(self, faces: FaceTable, model: FaceClassifier) -> None:
        size = (model.image_size, model.image_size)
        mean, std = model.mean.flatten().tolist(), model.std.flatten().tolist()
        self.paths = [faces.root / name for name in faces.frame["image"]]
        self.change = transforms.Compose(
            [transforms.Resize(size), transforms.ToTensor(), transforms.Normalize(mean, std)]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.change(Image.open(self.paths[index]).convert("RGB"))


def network(backbone: str, size: int, faces: FaceTable, weights: Path) -> FaceClassifier:
    """Return the same network in every process, which tells these faces apart: found once, kept in `weights`.

    Batch norms know the faces' statistics and the heads are fitted to their labels by ridge regression, so that
    classes have margins as trained ones do: those of a network of noise would hang on single roundings.
    """
    spec = ModelSpec(backbone=backbone, weights="none", image_size=size)
    model = FaceClassifier(build_backbone(spec), CLASSES, shared=0).eval()
    if weights.exists():
        model.load_state_dict(torch.load(weights, weights_only=True))
        return model
    torch.manual_seed(0)
    model = FaceClassifier(build_backbone(spec), CLASSES, shared=0).eval()
    pixels = torch.from_numpy(np.stack([load_face(faces.root / name, size) for name in faces.frame["image"]]))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = None
        model.train()(model.prepare(pixels[:64]))
        x = torch.cat([model.eval().embed(model.prepare(part)) for part in pixels.split(BATCH)]).double()
        centred = x - x.mean(0)
        inverse = torch.linalg.inv(centred @ centred.T + 0.03 * centred.square().sum(1).mean() * torch.eye(len(x)))
        for head, (task, classes) in zip(model.heads, CLASSES.items(), strict=True):
            codes = torch.from_numpy(faces.frame[task].cat.codes.to_numpy().copy()).long()
            wanted = 10 * torch.nn.functional.one_hot(codes, len(classes)).double()
            head.weight.copy_((centred.T @ (inverse @ (wanted - wanted.mean(0)))).T)
            head.bias.copy_(wanted.mean(0) - head.weight.double() @ x.mean(0))
    torch.save(model.state_dict(), weights)
    return model


def eager(model: FaceClassifier, faces: FaceTable) -> Work:
    """The plain loop."""

    def work() -> dict[str, np.ndarray]:
        found: dict[str, list[torch.Tensor]] = {task: [] for task in CLASSES}
        with torch.no_grad():
            for x in DataLoader(Files(faces, model), batch_size=BATCH):
                for task, logits in model(x).items():
                    found[task].append(logits.softmax(1))
        return {task: torch.cat(parts).numpy() for task, parts in found.items()}

    return work


def forward(checkpoint: Checkpoint, faces: FaceTable) -> Work:
    """Our network alone, on faces in memory."""
    keep_freed_memory()
    run = checkpoint.on(torch.device("cpu"), torch.float32, flip=False)
    pixels = torch.from_numpy(
        np.stack([load_face(faces.root / name, checkpoint.image_size) for name in faces.frame["image"]])
    )
    return lambda: joined(run(part) for part in pixels.split(BATCH))


def whole(checkpoint: Checkpoint, faces: FaceTable, scratch: Path, cache: Path | None) -> Work:
    """From files to the table, as the command does it."""

    def work() -> dict[str, np.ndarray]:
        path = predict(checkpoint, faces, scratch / "predictions.parquet", cache=cache)
        frame = read_predictions(path).frame
        return {
            task: frame[[f"{task}_prob_{name}" for name in classes]].to_numpy(dtype=np.float32)
            for task, classes in CLASSES.items()
        }

    if cache:
        work()
    return work


def onnx(model: FaceClassifier, faces: FaceTable, scratch: Path) -> Work:
    """The exported network in onnxruntime, on faces that are prepared already."""
    import onnxruntime

    size, path = model.image_size, scratch / "network.onnx"
    shapes = {0: torch.export.Dim("faces", min=1, max=4096)}
    torch.onnx.export(
        model, (torch.randn(2, 3, size, size),), path, input_names=["x"], output_names=list(CLASSES),
        dynamic_shapes=(shapes,), dynamo=True, verbose=False,
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    pixels = torch.from_numpy(np.stack([load_face(faces.root / name, size) for name in faces.frame["image"]]))
    x = model.prepare(pixels).contiguous()

    def work() -> dict[str, np.ndarray]:
        parts = [session.run(list(CLASSES), {"x": part.numpy()}) for part in x.split(BATCH)]
        return {
            task: torch.from_numpy(np.concatenate([part[i] for part in parts])).softmax(1).numpy()
            for i, task in enumerate(CLASSES)
        }

    return work


def joined(parts: Iterator[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Put batches together."""
    every = list(parts)
    return {task: np.concatenate([part[task] for part in every]) for task in every[0]}


def one_side(given: argparse.Namespace, scratch: Path) -> None:
    """Run one side twice; leave the lesser CPU seconds and the probabilities in `scratch`."""
    torch.set_num_threads(1)
    faces = some_faces(given.data, given.faces, scratch / "faces")
    model = network(given.backbone, given.size, faces, scratch / "weights.pt")
    checkpoint = Checkpoint(folder=scratch, model=model, meta={}, history=pd.DataFrame())
    tenth = replace(faces, frame=faces.frame.iloc[: len(faces) // 10])
    work = {
        "eager": lambda: eager(model, faces),
        "forward": lambda: forward(checkpoint, faces),
        "predict": lambda: whole(checkpoint, faces, scratch, None),
        "cached": lambda: whole(checkpoint, faces, scratch, scratch / "cache"),
        "onnxruntime": lambda: onnx(model, faces, scratch),
    }[given.side]()
    seconds, answers = least(work)
    first = least(whole(checkpoint, tenth, scratch, None))[0] if given.side == "predict" else None
    np.savez(scratch / f"{given.side}.npz", **answers)
    told = {"seconds": seconds, "faces": len(faces), "first": first, "of": len(tenth)}
    (scratch / f"{given.side}.json").write_text(json.dumps(told))


def least(work: Work) -> tuple[float, dict[str, np.ndarray]]:
    """Return the lesser CPU seconds of two runs, and the answers of the second."""
    spent = []
    for _ in range(2):
        began = time.process_time()
        answers = work()
        spent.append(time.process_time() - began)
    return min(spent), answers


def main() -> None:
    """Run all sides in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--data", type=Path, default=Path("../shared/faces/utkface"))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        one_side(given, given.scratch)
        return
    sides = [side for side in SIDES if side in given.sides.split(",")]
    rates = dict.fromkeys(sides, 0.0)
    beyond = []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.rounds):
            for side in sides:
                call = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--side", side, "--scratch", name]
                subprocess.run(call, check=True, stdout=subprocess.DEVNULL)
                told = json.loads((Path(name) / f"{side}.json").read_text())
                rates[side] = max(rates[side], told["faces"] / told["seconds"])
                print(f"{side}: {told['faces'] / told['seconds']:,.0f} faces a CPU second", flush=True)
                if told["first"]:
                    beyond.append((told["faces"] - told["of"]) / (told["seconds"] - told["first"]))
        answers = {side: dict(np.load(Path(name) / f"{side}.npz")) for side in sides}
    first = sides[0]
    for side in sides:
        away = max(float(np.abs(answers[side][task] - answers[first][task]).max()) for task in CLASSES)
        same = min(float((answers[side][t].argmax(1) == answers[first][t].argmax(1)).mean()) for t in CLASSES)
        print(f"{side}: {rates[side]:,.0f} faces a CPU second; {100 * same:.2f} % of the classes as {first}, "
              f"probabilities at most {away:.1e} away")  # fmt: skip
        if same < 1:
            print(f"  {side} and {first} disagree")
    for side, other in (
        ("predict", "eager"),
        ("predict", "forward"),
        ("cached", "forward"),
        ("forward", "onnxruntime"),
    ):
        if side in rates and other in rates:
            print(f"{side}: {rates[side] / rates[other]:.2f}× {other}")
    if beyond and "forward" in rates:
        shares = ", ".join(f"{100 * rate / rates['forward']:.0f} %" for rate in beyond)
        print(f"predict beyond its first tenth: {shares} of forward's rate (a run each)")


if __name__ == "__main__":
    main()
