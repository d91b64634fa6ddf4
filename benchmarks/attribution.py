"""Integrated gradients of 50 steps for three heads: Captum as it comes against Captum as `fairaudit attribute` uses it.

    python benchmarks/attribution.py [--faces 4] [--backbone mobilenet_v2] [--size 128]

Each side runs in a process of its own, one thread each, so that its peak memory is its own. "As it comes": one call a
head for all faces, every path image in one forward pass. Ours: batch norms folded, a bounded number of path images at
once, one forward pass for all heads. The attributions must agree: ReLU kinks move single pixels (that is Captum's own
error between float32 and float64, too), so the agreement asked for is 1 % of the summed absolute difference.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

STEPS = 50
HEADS = {"gender": 2, "race": 5, "age": 9}


def one_side(side: str, faces: int, backbone: str, size: int, out: Path) -> None:
    """Attribute with one side, write the attributions and print CPU seconds and peak memory as JSON."""
    import torch
    from captum.attr import IntegratedGradients

    from fairaudit.attribution.effort import Effort
    from fairaudit.attribution.methods import blurred, class_scores, integrated_gradients, rows_a_pass
    from fairaudit.attribution.networks import ready
    from fairaudit.models.backbones import build_backbone
    from fairaudit.models.classifier import FaceClassifier
    from fairaudit.spec import ModelSpec

    torch.set_num_threads(1)
    torch.manual_seed(0)
    classes = {task: tuple(map(str, range(count))) for task, count in HEADS.items()}
    spec = ModelSpec(backbone=backbone, weights="none", image_size=size)
    model = FaceClassifier(build_backbone(spec), classes).eval()
    x = model.prepare(torch.randint(0, 256, (faces, size, size, 3), dtype=torch.uint8)).contiguous()
    baseline = blurred(x)
    targets = {task: torch.arange(faces) % count for task, count in HEADS.items()}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    if side == "captum64":
        torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]  # the network rounds its maps to float32
        model, x, baseline = model.double(), x.double(), baseline.double()
    if side.startswith("captum"):
        found = {}
        for task, wanted in targets.items():
            method = IntegratedGradients(
                lambda z, task=task, wanted=wanted: class_scores(model(z)[task], wanted.repeat(len(z) // faces))
            )
            found[task] = method.attribute(x, baseline, n_steps=STEPS)
    else:
        fast = ready(model, torch.device("cpu"))
        rows = rows_a_pass(STEPS, size, size, torch.device("cpu"))
        each = [
            integrated_gradients(
                fast, x[i : i + 1], baseline[i : i + 1], {t: c[i : i + 1] for t, c in targets.items()},
                Effort(steps=STEPS, rows=rows),
            )
            for i in range(faces)
        ]  # fmt: skip
        found = {task: torch.cat([one[task] for one in each]) for task in targets}
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    np.savez(out, **{task: values.detach().numpy() for task, values in found.items()})
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": peak}) + "\n")


def main() -> None:
    """Run both sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=4)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--side", choices=["captum", "captum64", "fairaudit"], help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        one_side(given.side, given.faces, given.backbone, given.size, given.out)
        return
    results, found = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("captum", "captum64", "fairaudit"):
            out = Path(folder) / f"{side}.npz"
            command = [sys.executable, __file__, *sys.argv[1:], "--side", side, "--out", str(out)]
            results[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            found[side] = dict(np.load(out))
    for task in HEADS:
        theirs, ours, exact = (found[side][task] for side in ("captum", "fairaudit", "captum64"))
        apart, own, rest = (
            np.abs(a - b).sum() / np.abs(exact).sum() for a, b in ((theirs, ours), (theirs, exact), (ours, exact))
        )
        print(
            f"{task}: summed absolute difference {100 * apart:.3f} % of the attribution; from Captum in float64: "
            f"Captum in float32 {100 * own:.3f} %, ours {100 * rest:.3f} %"
        )
        if not apart < 0.01:
            raise SystemExit(f"the two sides disagree on {task}")
    time_ratio = results["captum"]["seconds"] / results["fairaudit"]["seconds"]
    memory_ratio = results["captum"]["peak"] / results["fairaudit"]["peak"]
    what = f"{given.faces} faces × {len(HEADS)} heads, {given.backbone} at {given.size} px"
    print(f"{what}: {time_ratio:.1f}× less CPU time, {memory_ratio:.1f}× less peak memory than Captum as it comes")


if __name__ == "__main__":
    main()
