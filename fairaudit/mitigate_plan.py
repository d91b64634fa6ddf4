"""What `fairaudit mitigate` will do: faces divided, heads and methods chosen or refused, before anything is trained."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fairaudit.data.readers import READERS
from fairaudit.data.splits import redivide
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.inputs import face_root, listing_hash, load_and_split
from fairaudit.mitigation.checks import check_problem
from fairaudit.mitigation.methods import METHODS, cautions, refused
from fairaudit.mitigation.problem import Problem
from fairaudit.mitigation.refitted import make_problem
from fairaudit.model_stages import describe_faces
from fairaudit.models.cache import MOST_KEPT, ArrayCache
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.embeddings import Embedder, checkpoint_embedder, pretrained_embedder
from fairaudit.models.inference import count_seen
from fairaudit.refit_stage import versions
from fairaudit.registry import lookup
from fairaudit.spec import MitigateSpec, Spec
from fairaudit.stages import Run
from fairaudit.wording import plural

BASELINE = "erm"
POOL, TEST = "data/pool.parquet", "data/test.parquet"
CACHE = "cache"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is fitted: the axis `by`, the methods of each head, what is left out and why, and what should be known.

    `refused` has rows (task, method, reason); `views` says whether a method asks for augmented versions of the faces.
    """

    by: str
    heads: Mapping[str, tuple[str, ...]]
    refused: tuple[tuple[str, str, str], ...] = ()
    notes: tuple[str, ...] = ()
    views: bool = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Every method that some head is fitted with, in the order of METHODS; the first is the baseline."""
        return tuple(name for name in METHODS if any(name in names for names in self.heads.values()))


@dataclass(frozen=True, kw_only=True)
class Mitigating:
    """One call of `fairaudit mitigate`: the run, and the trained checkpoint whose backbone is used, if there is one."""

    job: Run
    checkpoint: Checkpoint | None = None
    cache: Path | None = None
    embedder: Embedder = field(init=False)

    def __post_init__(self) -> None:
        spec = self.job.spec
        device = spec.training.device
        made = (
            checkpoint_embedder(self.checkpoint, device)
            if self.checkpoint
            else pretrained_embedder(spec, self.job.weights_folders, device)
        )
        object.__setattr__(self, "embedder", made)

    @property
    def settings(self) -> MitigateSpec:
        """How heads are fitted and compared."""
        return self.job.spec.mitigate

    @property
    def seeds(self) -> range:
        """The seeds, from 1."""
        return range(1, self.settings.seeds + 1)

    @property
    def versions(self) -> int:
        """How many augmented versions of a face the spec asks for, beside the face and its mirror image."""
        return versions(self.job.spec)

    @property
    def varies(self) -> str:
        """What differs between two seeds, for the reader."""
        if self.checkpoint:
            return (
                "initialization, order and sampling; training and validation faces are those of the checkpoint, "
                "because its backbone has seen them"
            )
        return "the division into training and validation faces, initialization, order and sampling"

    @cached_property
    def store(self) -> ArrayCache:
        """Where embeddings are kept."""
        folder, limit = self.cache or self.job.out / CACHE, MOST_KEPT if self.cache else None
        return ArrayCache(
            folder=folder, progress=self.job.progress, device=self.embedder.model.mean.device, limit=limit
        )


def check_mitigate(spec: Spec, checkpoint: Checkpoint | None) -> None:
    """Raise UsageError for a data set, method or head that cannot be had, before any face is read."""
    for source in spec.data.sources or (spec.data,):
        lookup(READERS, source.dataset, "dataset")
    if spec.sweep:
        raise UsageError("the spec has a table `sweep`: run `fairaudit sweep`, or take the table out")
    for name in spec.mitigate.methods:
        lookup(METHODS, name, "mitigation of heads")
    if "dropout" in spec.mitigate.model_fields_set and not spec.mitigate.hidden:
        raise UsageError("mitigate.dropout is of a hidden layer, and hidden = 0 has none: give hidden, or take it out")
    named = spec.mitigate.methods
    if named and "cap" in spec.mitigate.model_fields_set and not any(METHODS[name].caps for name in named):
        raise UsageError(
            f"mitigate.cap = {spec.mitigate.cap:g} is heeded by none of {', '.join(named)}: take it out (it belongs to "
            f"{', '.join(name for name, method in METHODS.items() if method.caps)})"
        )
    for task in spec.mitigate.tasks or ():
        known = checkpoint.classes if checkpoint else spec.tasks
        if known:
            lookup(dict.fromkeys(known), task, "head in mitigate.tasks")


def prepare(work: Mitigating) -> FaceTable:
    """Write the faces that are not for testing and the test faces into two files, and return the former.

    Raises DataError where a checkpoint was trained with another division, or saw a face of the test set.
    """
    spec, out = work.job.spec, work.job.out

    def write() -> None:
        faces = load_and_split(work.job.root, spec, work.job.progress)
        describe_faces(faces, work.job.say)
        if work.checkpoint:
            _same_division(work.checkpoint, faces)
        faces.without("test").save(out / POOL)
        faces.part("test").save(out / TEST)

    inputs = {
        "data": spec.data.model_dump(mode="json"),
        "split": spec.split.model_dump(mode="json"),
        "tasks": spec.tasks,
        "seed": spec.seed,
        "files": listing_hash(work.job.root),
        "checkpoint": work.checkpoint.hash if work.checkpoint else None,
    }
    work.job.stage("data", inputs, [POOL, TEST], write)
    return FaceTable.load(out / POOL, face_root(spec, work.job.root))


def _same_division(checkpoint: Checkpoint, faces: FaceTable) -> None:
    advice = "give the spec and the faces that the checkpoint was trained with"
    if checkpoint.meta.get("split_hash") != faces.meta["split_hash"]:
        raise DataError(f"the checkpoint was trained on another division into training, validation and test: {advice}")
    seen = count_seen(checkpoint, faces.part("test"))
    if sum(seen.values()):
        raise DataError(
            f"{plural(sum(seen.values()), 'test face was', 'test faces were')} used to train or choose the "
            f"checkpoint: {advice}"
        )


def divided(work: Mitigating, pool: FaceTable, seed: int) -> FaceTable:
    """Return the pool with the training and validation faces of a seed: drawn anew, or the checkpoint's own."""
    if work.checkpoint:
        return pool
    spec = work.job.spec
    return redivide(
        pool, spec.split, seed=spec.seed + 1000 * seed, duplicates=spec.data.duplicates, balance=spec.data.balance
    )


def make_plan(work: Mitigating, pool: FaceTable) -> Plan:
    """Decide what is fitted, from labels and subgroups alone: nothing is trained, no picture is read.

    Every seed's own division into training and validation faces is looked at: what one of them cannot do is not begun.
    Raises UsageError for a method that was named and cannot be used on a head that was named, or on none; and where no
    head is left.
    """
    settings = work.settings
    by = settings.by or (work.job.spec.audit.subgroups or [*pool.attributes, *pool.tasks])[0]
    pool.require([by])
    tasks, lacking = _tasks(work, pool)
    empty = np.zeros((len(pool), 0), dtype=np.float32)
    divisions = {seed: divided(work, pool, seed) for seed in work.seeds}
    heads, turned_down, notes, views = {}, [], [f"{task}: the checkpoint has no such head" for task in lacking], False
    for task in tasks:
        outlines = {
            seed: make_problem(faces, empty, task, by, seed=seed, settings=settings, views=[empty] * work.versions)
            for seed, faces in divisions.items()
        }
        outline = next(iter(outlines.values()))
        if outline.degenerate and not settings.tasks:
            notes.append(f"{task}: left out, because {outline.degenerate}")
            continue
        notes += [f"{task}: {text}" for text in _said_once({s: check_problem(one) for s, one in outlines.items()})]
        own, said = _allowed(outlines, settings)
        for name in own:
            known = _said_once({seed: cautions(name, one) for seed, one in outlines.items()})
            notes += [f"{task}, {name}: {text}" for text in known]
        turned_down += [(task, method, reason) for method, reason in said.items()]
        bare = replace(outline, train=replace(outline.train, views=()))
        views |= any(refused(name, bare) for name in own)
        heads[task] = own
    if not heads:
        raise UsageError(
            f"no head is left to mitigate by {by!r}: {'; '.join(notes)}. Choose other heads or another axis"
        )
    for method in settings.methods:
        reasons = [reason for _, name, reason in turned_down if name == method]
        if len(reasons) == len(heads):
            raise UsageError(reasons[0])
    return Plan(by=by, heads=heads, refused=tuple(turned_down), notes=tuple(notes), views=views)


def _tasks(work: Mitigating, pool: FaceTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the heads to be mitigated: those named, else all of the spec; and those that the checkpoint lacks."""
    wanted = work.settings.tasks or work.job.spec.tasks or tuple(pool.tasks)
    for task in wanted:
        lookup(pool.tasks, task, "head (the data have no such label)")
    if work.checkpoint is None:
        return tuple(wanted), ()
    for task in wanted:
        own = work.checkpoint.classes.get(task)
        if own is not None and tuple(own) != tuple(pool.tasks[task]):
            raise DataError(f"the checkpoint's head {task!r} has other classes than the data: {', '.join(own)}")
    known = work.checkpoint.classes
    return tuple(task for task in wanted if task in known), tuple(task for task in wanted if task not in known)


def _said_once(said: Mapping[int, Sequence[str]]) -> list[str]:
    """Return the sentences of every seed, those that differ in numbers alone once; of a later seed, which it is."""
    first, found = next(iter(said)), dict[str, str]()
    for seed, texts in said.items():
        for text in texts:
            found.setdefault(re.sub(r"\d+", "#", text), text if seed == first else f"{text} (seed {seed})")
    return list(found.values())


def _allowed(outlines: Mapping[int, Problem], settings: MitigateSpec) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the methods that can be used on a head with every seed, the baseline first, and why the others cannot."""
    wanted = [name for name in METHODS if name == BASELINE or not settings.methods or name in settings.methods]
    reasons = {}
    for name in wanted:
        why = {seed: reason for seed, one in outlines.items() if (reason := refused(name, one))}
        if why:
            seed, reason = next(iter(why.items()))
            reasons[name] = reason if len(why) == len(outlines) else f"{reason} (seed {seed})"
    for name, reason in reasons.items():
        if settings.tasks and name in settings.methods:
            raise UsageError(reason)
    return tuple(name for name in wanted if name not in reasons), reasons
