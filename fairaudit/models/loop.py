"""The training loop: epochs of one stage, the best one kept, and its state on disk after each."""

import copy
import io
import math
import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairaudit.errors import FairauditError
from fairaudit.files import atomic_file
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.compiling import PLAIN, Compiled, in_a_line
from fairaudit.models.curves import Curves
from fairaudit.models.limits import free_memory, out_of_memory
from fairaudit.models.losses import Target, loss_of
from fairaudit.models.mixing import blend
from fairaudit.models.parallel import check_batch, team
from fairaudit.models.runtime import Clock, ahead, autocast
from fairaudit.models.selection import Judge
from fairaudit.progress import Progress
from fairaudit.spec import TrainingSpec
from fairaudit.wording import plural

Sampler = Callable[[np.ndarray], Tensor]
SMALLEST_BATCH = 2  # faces: batch norm needs two
STILL_HIGH = 0.5  # of its height: a learning rate above this has its fall, and what is learned in it, still before it


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training.

    `inputs(epoch)` returns the function that loads a batch of rows; `forward` gives logits from it; `validate` gives
    the probabilities of all validation faces; `learns` are the modules in training mode, `groups` the optimizer's
    parameter groups, `prefixes` the names of the state that this stage changes, `dtype` the forward pass's format,
    `images` the training faces' names.
    """

    name: str
    epochs: int
    inputs: Callable[[int], Sampler]
    forward: Callable[[Tensor], dict[str, Tensor]]
    validate: Callable[[], dict[str, Tensor]]
    learns: Sequence[nn.Module]
    groups: list[dict[str, Any]]
    prefixes: tuple[str, ...]
    dtype: torch.dtype
    images: Sequence[str] = ()


@dataclass
class Run:
    """What training has reached so far; `save` and `restore` make it survive a kill.

    `batch_size` is what memory allowed, 0 for the spec's own; `uncompiled` whether compiling was tried and failed;
    `notes` say what happened on the way.
    """

    key: str
    path: Path
    stage: str = ""
    epoch: int = 0
    best_score: float = -math.inf
    best_stage: str = ""
    best_epoch: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    current: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    stage_best: float = -math.inf
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    batch_size: int = 0
    uncompiled: bool = False
    notes: list[str] = field(default_factory=list)

    def save(self) -> None:
        """Write the state, whole or not at all."""
        values = {name: value for name, value in vars(self).items() if name != "path"}
        stream = io.BytesIO()  # writing to a file itself, torch hides a full disk behind an error of its own
        torch.save(values, stream)
        with atomic_file(self.path) as temporary:
            temporary.write_bytes(stream.getbuffer())

    def restore(self) -> str:
        """Read the state back where it belongs to this run; return a note on what was found, empty for nothing."""
        if not self.path.exists():
            return ""
        try:
            values = torch.load(self.path, map_location="cpu", weights_only=True)
            if values["key"] == self.key:
                vars(self).update({name: values[name] for name in vars(self) if name != "path"})
                return f"continued after epoch {self.epoch} of stage {self.stage}"
        except (pickle.UnpicklingError, OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError):
            pass  # cut off or foreign: it is worth no more than a stale one
        self.path.unlink(missing_ok=True)
        return "an earlier unfinished training with other data or settings was discarded"


def snapshot(model: nn.Module, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """Return a copy, on the CPU, of the part of the model's state whose names begin with one of `prefixes`."""
    state = model.state_dict()
    return {name: value.detach().cpu().clone() for name, value in state.items() if name.startswith(prefixes)}


def run_stage(
    model: FaceClassifier,
    stage: Stage,
    run: Run,
    targets: Mapping[str, Target],
    judge: Judge,
    spec: TrainingSpec,
    *,
    seed: int,
    progress: Progress,
    curves: Curves,
) -> None:
    """Train one stage from where `run` stands, and leave the best weights so far in the model."""
    optimizer = torch.optim.AdamW(stage.groups, weight_decay=spec.weight_decay)
    if run.stage == stage.name:
        model.load_state_dict(run.current, strict=False)
        if run.optimizer:
            optimizer.load_state_dict(run.optimizer)
    else:
        run.stage, run.epoch, run.waited, run.stage_best = stage.name, 0, 0, -math.inf
        run.best = {**snapshot(model, stage.prefixes), **run.best}
    while run.epoch < stage.epochs and run.waited < spec.patience:
        began = time.perf_counter()
        clock = Clock()
        loss = _fitting_epoch(model, stage, run, optimizer, targets, spec, seed, clock, progress)
        clock.seconds = time.perf_counter() - began
        model.eval()
        team().average_buffers(model)
        verdict = team().agree(judge.judge(stage.validate()))
        if not math.isfinite(verdict.loss):  # the last step of the epoch did it; what is saved is still sound
            raise _diverged(stage, run, f"the validation loss became {verdict.loss} after epoch {run.epoch + 1}", [])
        run.epoch += 1
        better = verdict.score > run.best_score
        # patience looks at this stage only: a new stage's high learning rate first undoes some of the one before
        run.waited = 0 if verdict.score > run.stage_best else run.waited + 1
        run.stage_best = max(run.stage_best, verdict.score)
        if better:
            run.best_score, run.best_stage, run.best_epoch = verdict.score, stage.name, run.epoch
            run.best = snapshot(model, stage.prefixes)
        run.history.append(
            {
                "stage": stage.name,
                "epoch": run.epoch,
                "seconds": time.perf_counter() - began,
                "images_per_second": clock.per_second(),
                "share_waiting": clock.share_waiting(),
                "train_loss": loss,
                "val_loss": verdict.loss,
                "val_score": verdict.score,
                **{f"val_accuracy_{task}": value for task, value in verdict.accuracy.items()},
                **({} if verdict.mae is None else {"val_mae_years": verdict.mae}),
            }
        )
        run.current, run.optimizer = snapshot(model, stage.prefixes), optimizer.state_dict()
        if team().first:
            run.save()
        curves.add(run.history[-1])
        progress(f"train {stage.name}", run.epoch, stage.epochs, f"loss {loss:.3f}, validation {verdict.score:.4f}")
    for note in _stopped_high(stage, run, spec):
        if note not in run.notes:  # it was there before, where a stopped training goes on
            run.notes.append(note)
            progress(f"train {stage.name}", run.epoch, stage.epochs, note)
    model.load_state_dict(run.best, strict=False)
    model.eval()


def _fitting_epoch(
    model: FaceClassifier,
    stage: Stage,
    run: Run,
    optimizer: torch.optim.Optimizer,
    targets: Mapping[str, Target],
    spec: TrainingSpec,
    seed: int,
    clock: Clock,
    progress: Progress,
) -> float:
    """Run one epoch as `_epoch` does; where memory is full, from its start again in batches of half the size, and where
    compiling its steps fails, from its start again without.
    """
    compiled = stage.forward if isinstance(stage.forward, Compiled) else None
    if compiled and run.uncompiled:
        compiled.off()
    start = snapshot(model, stage.prefixes), copy.deepcopy(optimizer.state_dict())
    while True:
        size = min(run.batch_size or spec.batch_size, len(next(iter(targets.values())).codes))
        try:
            return _epoch(model, stage, run, optimizer, targets, spec, size, seed, clock)
        except FairauditError:
            raise
        except Exception as error:
            full = out_of_memory(error)
            if not full and not (compiled and compiled.on):
                raise
            if team().size > 1:  # the other processes wait in the middle of this batch
                if full:
                    raise
                raise _uncompilable(error) from error
            said = in_a_line(error)
        note = _halved(stage, run, size, said) if full or not compiled else _uncompiled(stage, run, compiled, said)
        run.notes.append(note)
        progress(f"train {stage.name}", run.epoch, stage.epochs, note)
        optimizer.zero_grad(set_to_none=True)
        free_memory()
        model.load_state_dict(start[0], strict=False)
        optimizer.load_state_dict(copy.deepcopy(start[1]))
        clock.images = 0


def _halved(stage: Stage, run: Run, size: int, said: str) -> str:
    """Halve the batches and return the note of it; FairauditError where they cannot be smaller."""
    if size < 2 * SMALLEST_BATCH:
        raise FairauditError(
            f"memory is full even with batches of {plural(size, 'face')} ({said}). Give a smaller model.image_size, "
            "backbone or trainable_blocks, or free memory on the device"
        )
    run.batch_size = size // 2
    return f"memory was full in stage {stage.name}, epoch {run.epoch + 1}: batches of {size // 2}, not {size}"


def _uncompiled(stage: Stage, run: Run, compiled: Compiled, said: str) -> str:
    """Give compiling up and return the note of it; where something else is wrong, it comes again, and is raised."""
    compiled.off()
    run.uncompiled = True
    return f"a compiled step failed in stage {stage.name}, epoch {run.epoch + 1} ({said}): {PLAIN}"


def _uncompilable(error: Exception) -> FairauditError:
    return FairauditError(
        f"a compiled step failed ({in_a_line(error)}). Several processes cannot go back to the epoch's start together: "
        "give training.compile = false"
    )


def _epoch(
    model: FaceClassifier,
    stage: Stage,
    run: Run,
    optimizer: torch.optim.Optimizer,
    targets: Mapping[str, Target],
    spec: TrainingSpec,
    size: int,
    seed: int,
    clock: Clock,
) -> float:
    """Run one epoch and return the mean loss; everything random in it follows from the seed, stage and epoch."""
    count = len(next(iter(targets.values())).codes)
    device, epoch = model.mean.device, run.epoch
    draw = np.random.default_rng([seed, *stage.name.encode(), epoch])
    batches = list(_batches(draw.permutation(count), size))
    sample = stage.inputs(epoch)
    own = team()
    check_batch(min(size, count), own)
    shares = [own.share(rows) for rows in batches]
    model.eval()
    for module in stage.learns:
        module.train()
    losses = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(draw.integers(2**31)) + own.rank)
        if own.size > 1:  # shares of different sizes would draw differently much from one generator
            draw = np.random.default_rng([seed, *stage.name.encode(), epoch, own.rank])
        for number, (rows, x) in enumerate(zip(batches, ahead(sample, shares, clock), strict=True)):
            _set_rates(optimizer, (epoch * len(batches) + number + 1) / (stage.epochs * len(batches)), spec.warm_up)
            with autocast(device, stage.dtype):
                part = torch.from_numpy(shares[number]).to(device)
                batch = torch.from_numpy(rows).to(device) if own.size > 1 else None
                loss = _blended_loss(stage.forward, x, part, batch, targets, spec, draw)
            value = own.total(loss)
            if not math.isfinite(value):
                where = f"epoch {epoch + 1}, batch {number + 1} of {len(batches)}"
                raise _diverged(stage, run, f"the loss became {value} in {where}", [stage.images[row] for row in rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            own.add_gradients([parameter for group in optimizer.param_groups for parameter in group["params"]])
            optimizer.step()
            losses.append(value)
            clock.images += len(rows)
    return float(np.mean(losses))


def _diverged(stage: Stage, run: Run, what: str, images: Sequence[str]) -> FairauditError:
    """Return the error of a loss that is no number; the batch's images, where known, are listed beside the state."""
    batch = ""
    if images:
        path = run.path.with_name("stopped_batch.txt")
        with atomic_file(path) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in images), encoding="utf-8")
        batch = f" Its {len(images)} images are listed in {path}: {', '.join(images[:3])}, …"
    kept = f"epoch {run.epoch} of stage {run.stage!r}" if run.epoch else "the stage before" if run.history else ""
    return FairauditError(
        f"training stopped: {what} of stage {stage.name!r}.{batch} Lower training.learning_rate or give precision = "
        f"'fp32'. " + (f"What was reached by {kept} is kept; the same call goes on from there" if kept else "")
    )


def _blended_loss(
    forward: Callable[[Tensor], dict[str, Tensor]],
    x: Tensor,
    rows: Tensor,
    batch: Tensor | None,
    targets: Mapping[str, Target],
    spec: TrainingSpec,
    draw: np.random.Generator,
) -> Tensor:
    """Return the loss of a batch, or of its share `rows`: with mixup or cutmix, that of faces blended in pairs against
    both faces' labels.
    """
    x, partner, share = blend(x, spec, draw)
    logits = forward(x)
    if partner is None:
        return loss_of(logits, targets, rows, batch)
    other = loss_of(logits, targets, rows[partner], batch)
    return share * loss_of(logits, targets, rows, batch) + (1 - share) * other


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Cut the order into whole batches; what is left over waits for the next epoch's order."""
    size = min(size, len(order))
    for start in range(0, len(order) - size + 1, size):
        yield order[start : start + size]


def _set_rates(optimizer: torch.optim.Optimizer, done: float, warm_up: float) -> None:
    """Give every group of parameters the learning rate that it has after the share `done` of its stage."""
    factor = _height(done, warm_up)
    for group in optimizer.param_groups:
        group["lr"] = group["height"] * factor


def _height(done: float, warm_up: float) -> float:
    """One cycle: the learning rate rises from 1/25 of its height along a cosine, then falls along one to nearly 0."""
    rising = done < warm_up
    along = done / warm_up if rising else (done - warm_up) / (1 - warm_up)
    low, high = (0.04, 1.0) if rising else (1.0, 1e-5)
    return low + (high - low) * (1 - math.cos(math.pi * along)) / 2


def _stopped_high(stage: Stage, run: Run, spec: TrainingSpec) -> list[str]:
    """Say that training stopped early before its learning rate had fallen: most of what is learned comes after that."""
    height = _height(run.epoch / stage.epochs, spec.warm_up)
    if run.epoch == stage.epochs or height < STILL_HIGH:
        return []
    return [
        f"stage {stage.name} stopped early after epoch {run.epoch} of {stage.epochs}, and its learning rate was still "
        f"at {height:.0%} of its height: a larger training.patience (now {spec.patience}) may reach a better model"
    ]
