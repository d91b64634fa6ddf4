"""What `predict --compile` and `training.compile` gain on a CPU: a network and its training step, plain and compiled.

    python benchmarks/compiling.py [--backbone mobilenet_v2] [--size 128] [--rounds 5]

Both sides compute the same batch of 32 faces of noise in one thread, in turn; CPU seconds are compared, and what
compiling took (wall time; less where torch finds its kernels on disk) is printed beside them. Probabilities must agree
to 1e-4, and those of different faces must differ; gradients must agree to 1 % of their norm (bfloat16: 10 %). Dropout
is off, because its draws would differ.
"""

import argparse
import time
from collections.abc import Callable

import torch
from faces import CLASSES
from timing import alternate
from torch import Tensor

from fairaudit.models.backbones import build_backbone
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import Compiled, why_not
from fairaudit.models.network_forward import network_forward
from fairaudit.models.runtime import keep_freed_memory
from fairaudit.spec import ModelSpec

CPU = torch.device("cpu")
BATCH = 32
REPEATS = 10  # batches a round


def timed(work: Callable[[], object]) -> str:
    """Run once, and say how long it took."""
    began = time.perf_counter()
    work()
    return f"{time.perf_counter() - began:.0f} s"


def said(what: str, rates: dict[str, float]) -> None:
    """Print both rates and their ratio."""
    print(f"{what}: {rates['a']:,.0f} faces a CPU second, compiled {rates['b']:,.0f}, {rates['b'] / rates['a']:.2f}×")


def prediction(model: FaceClassifier, rounds: int) -> None:
    """The network of `predict`."""
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (BATCH, model.image_size, model.image_size, 3), dtype=torch.uint8, generator=draw)
    plain, _ = network_forward(model.eval(), CPU, torch.float32, flip=False)
    fast, blocks = network_forward(model, CPU, torch.float32, flip=False, compiled_for=BATCH)
    print(f"prediction: compiled in {timed(lambda: fast(pixels))}")
    if blocks is None or not blocks.on:
        raise SystemExit(f"prediction was not compiled: {blocks and blocks.notes}")
    sides = {name: (lambda run=run: [run(pixels) for _ in range(REPEATS)]) for name, run in (("a", plain), ("b", fast))}
    seconds, answers = alternate(sides, rounds)
    away = max(float(abs(answers["a"][0][task] - answers["b"][0][task]).max()) for task in CLASSES)
    spread = min(float(answers["a"][0][task].std(0).max()) for task in CLASSES)
    if spread < 1e-3:
        raise SystemExit(f"the network says the same of every face (spread {spread:.1e}): agreement would mean nothing")
    if away > 1e-4:
        raise SystemExit(f"the two sides disagree: probabilities {away:.1e} apart")
    rates = {name: BATCH * REPEATS / spent for name, spent in seconds.items()}
    said(f"prediction, probabilities at most {away:.1e} apart", rates)


def training(model: FaceClassifier, rounds: int, dtype: torch.dtype) -> None:
    """A step of fine-tuning on cached maps, without the optimizer."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        side = model.image_size
        z = model.eval().lower(model.prepare(torch.randint(0, 256, (BATCH, side, side, 3), generator=draw).byte()))
    fast = Compiled(model.train().from_maps)

    def step(forward: Callable[[Tensor], dict[str, Tensor]]) -> Tensor:
        model.zero_grad()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            found = forward(z)
        sum(values.logsumexp(1).mean() - values[:, 0].mean() for values in found.values()).backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    print(f"training: compiled in {timed(lambda: step(fast))}")
    runs = {"a": model.from_maps, "b": fast}
    sides = {name: (lambda run=run: [step(run) for _ in range(REPEATS)][-1]) for name, run in runs.items()}
    seconds, gradients = alternate(sides, rounds)
    away = float((gradients["a"] - gradients["b"]).norm() / gradients["a"].norm())
    allowed = 0.01 if dtype == torch.float32 else 0.1
    if away > allowed:
        raise SystemExit(f"the two sides disagree: gradients {away:.1e} of their norm apart")
    rates = {name: BATCH * REPEATS / spent for name, spent in seconds.items()}
    said(f"training step in {str(dtype).removeprefix('torch.')}, gradients {away:.1e} of their norm apart", rates)


def main() -> None:
    """Run both comparisons and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    if why := why_not(CPU):
        raise SystemExit(f"nothing can be compiled here: {why}")
    torch.manual_seed(0)
    spec = ModelSpec(backbone=given.backbone, weights="none", image_size=given.size)
    model = FaceClassifier(build_backbone(spec), CLASSES, dropout=0.0)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        if isinstance(part, torch.nn.BatchNorm2d):
            part.momentum = 1.0
    noise = torch.randint(0, 256, (BATCH, model.image_size, model.image_size, 3), dtype=torch.uint8)
    with torch.no_grad():  # batch norms that know the faces: with those of a new network all answers are alike
        model.train()(model.prepare(noise))
        for head in model.heads:
            head.weight.mul_(10)
    prediction(model, given.rounds)
    training(model, given.rounds, torch.bfloat16 if given.bf16 else torch.float32)


if __name__ == "__main__":
    main()
