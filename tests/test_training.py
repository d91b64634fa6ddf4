"""Training: it learns, repeats itself, survives a kill, and heeds weights, masks and the spec's choices."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_faces import make_faces, make_spec, small_weights

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, FairauditError, UsageError
from fairaudit.models import loop
from fairaudit.models.cache import ArrayCache
from fairaudit.models.checkpoint import Checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.runtime import pick_device, pick_dtype
from fairaudit.models.selection import Judge, Verdict, make_judge
from fairaudit.models.training import train
from fairaudit.progress import silent
from fairaudit.spec import AuditSpec, TrainingSpec

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Sixty pictures, split."""
    return make_faces(tmp_path_factory.mktemp("faces"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with weights that make small_cnn a pretrained backbone."""
    return small_weights(tmp_path_factory.mktemp("weights"))


PRETRAINED = {"model__weights": "small.pt", "model__trainable_blocks": 2, "training__head_epochs": 2}


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether two models are equal to the last bit."""
    one, two = a.model.state_dict(), b.model.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_tiny_network_learns_from_scratch(faces: FaceTable, tmp_path: Path) -> None:
    """End to end on a few pictures the colours are learned; the folder holds what it promises."""
    spec = make_spec(training__epochs=12, training__learning_rate=5e-3, training__patience=12)
    made = train(faces, spec, tmp_path / "c")
    assert made.history["val_accuracy_gender"].max() == 1.0
    assert made.history["selected"].sum() == 1
    assert set(made.history["stage"]) == {"all"}
    names = {path.name for path in (tmp_path / "c").iterdir()}
    assert names == {"model.safetensors", "model.json", "history.csv", "trained_on.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    usable = faces.frame[(faces.frame["split"] == "train") & faces.frame["trainable"]]
    assert made.trained_on["train"] == set(usable["sha256"].str[:16])
    assert faces.frame["sha256"][0][:16] not in made.trained_on["train"]
    assert made.meta["data"]["counts"]["train"]["faces"] == len(usable)


def test_a_pretrained_backbone_gets_heads_then_upper_blocks(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """Two stages stand in the history, the lower blocks stay as they were, the upper ones move."""
    made = train(faces, make_spec(**PRETRAINED, training__patience=9), tmp_path / "c", weights_folders=[weights])
    assert list(made.history["stage"]) == ["heads", "heads", "upper", "upper"]
    before = torch.load(weights / "small.pt", weights_only=True)
    after = made.model.blocks.state_dict()
    assert torch.equal(before["0.0.weight"], after["0.0.weight"])
    assert torch.equal(before["1.1.running_mean"], after["1.1.running_mean"])
    if made.meta["selected"]["stage"] == "upper":
        assert not torch.equal(before["3.3.weight"], after["3.3.weight"])
    assert made.meta["backbone_weights"]["file"] == "small.pt"


@pytest.mark.parametrize("norms", ["train", "frozen", "fold"])
@pytest.mark.parametrize("blocks", [0, 2, 4])
def test_every_cut_and_norm_trains(faces: FaceTable, weights: Path, tmp_path: Path, norms: str, blocks: int) -> None:
    """Heads only, upper blocks on maps, and everything end to end, each with batch norms treated in every way."""
    spec = make_spec(
        **{**PRETRAINED, "model__trainable_blocks": blocks, "training__epochs": 1, "training__head_epochs": 1},
        training__batch_norm=norms, training__mixup=0.4, training__flip_test=True, training__class_weights=True,
        training__label_smoothing=0.1,
    )  # fmt: skip
    made = train(faces, spec, tmp_path / "c", weights_folders=[weights])
    assert list(made.history["stage"]) == {0: ["heads"], 2: ["heads", "upper"], 4: ["heads", "all"]}[blocks]
    assert made.model.folded == (norms == "fold")
    assert np.isfinite(made.history["train_loss"]).all()


def test_bf16_trains(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """Reduced precision works on any machine; the weights stay float32."""
    spec = make_spec(**PRETRAINED, training__precision="bf16")
    made = train(faces, spec, tmp_path / "c", weights_folders=[weights])
    assert {value.dtype for value in made.model.parameters()} == {torch.float32}
    assert made.meta["speed"]["precision"] == "bfloat16"


@pytest.mark.parametrize("pretrained", [False, True], ids=["scratch", "pretrained"])
def test_same_seed_same_model(faces: FaceTable, weights: Path, tmp_path: Path, pretrained: bool) -> None:
    """Two runs with one seed agree to the last bit whatever torch's own random state; another seed differs."""
    more = PRETRAINED if pretrained else {}
    made = []
    for index, seed in enumerate((0, 0, 1)):
        torch.manual_seed(index)
        spec = make_spec(**more, seed=seed)
        made.append(train(faces, spec, tmp_path / str(index), weights_folders=[weights]))
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


class Killed(BaseException):
    """What stands for a kill in the tests."""


@pytest.mark.parametrize("after", [("heads", 1), ("heads", 2), ("upper", 1), ("upper", 2)])
def test_a_killed_run_continues_to_the_same_model(
    faces: FaceTable, weights: Path, tmp_path: Path, after: tuple[str, int]
) -> None:
    """Stopped after any epoch of any stage, the same call ends with the model of an uninterrupted run."""

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if (stage, done) == (f"train {after[0]}", after[1]):
            raise Killed

    spec = make_spec(**PRETRAINED, training__patience=9)
    whole = train(faces, spec, tmp_path / "whole", weights_folders=[weights])
    with pytest.raises(Killed):
        train(faces, spec, tmp_path / "cut", weights_folders=[weights], progress=kill)
    assert not (tmp_path / "cut").exists()
    notes: list[str] = []
    made = train(faces, spec, tmp_path / "cut", weights_folders=[weights], progress=lambda *a: notes.append(str(a[3:])))
    assert any("continued after epoch" in note for note in notes)
    assert same(whole, made)
    assert [path.name for path in tmp_path.iterdir() if "cut" in path.name] == ["cut"]


def test_a_stale_or_damaged_state_is_discarded_with_a_word(faces: FaceTable, tmp_path: Path) -> None:
    """A state of other settings, or one that was cut off, is neither used nor silently dropped."""

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "train all":
            raise Killed

    for damage in (False, True):
        with pytest.raises(Killed):
            train(faces, make_spec(), tmp_path / "c", progress=kill)
        if damage:
            (tmp_path / "c.training" / "state.pt").write_bytes(b"cut off")
        made = train(faces, make_spec(training__epochs=1, seed=0 if damage else 5), tmp_path / "c")
        assert any("discarded" in note for note in made.meta["notes"])
        assert len(made.history) == 1


def test_the_cache_is_shared_and_whole(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """A second model on the same faces computes no map again; a file cut off is made anew; results stay."""
    stages: list[str] = []
    spec = make_spec(**PRETRAINED)
    options = {"weights_folders": [weights], "cache": tmp_path / "cache"}
    first = train(faces, spec, tmp_path / "a", **options, progress=lambda *a: stages.append(a[0]))
    assert "cache maps (train, view 3 of 3)" in stages
    stages.clear()
    second = train(faces, spec, tmp_path / "b", **options, progress=lambda *a: stages.append(a[0]))
    assert not any(stage.startswith("cache") for stage in stages)
    assert same(first, second)
    for path in (tmp_path / "cache").glob("maps*.bin"):
        path.write_bytes(path.read_bytes()[:-1])
    third = train(faces, spec, tmp_path / "d", **options, progress=lambda *a: stages.append(a[0]))
    assert "cache maps (train, view 1 of 3)" in stages
    assert same(first, third)


def test_cache_keys_tell_arrays_apart(tmp_path: Path) -> None:
    """The same dependencies give the stored array, others a new one; a failure leaves no file."""
    cache = ArrayCache(folder=tmp_path)
    load = lambda rows: torch.arange(rows.start, rows.stop)  # noqa: E731
    for _ in range(2):
        made = cache.get("x", {"a": 1}, 100, load, lambda chunk: chunk[:, None] * torch.tensor([1.0, 2.0]))
        assert torch.equal(made, torch.arange(100)[:, None] * torch.tensor([1.0, 2.0]))
    assert (cache.made, cache.found) == (["x"], ["x"])
    with pytest.raises(ZeroDivisionError):
        cache.get("x", {"a": 2}, 100, load, lambda chunk: 1 // 0)
    assert len(list(tmp_path.iterdir())) == 2


def test_sample_weights_move_the_model(faces: FaceTable, tmp_path: Path) -> None:
    """With half the training labels swapped, the model believes those with weight; equal weights change nothing."""
    frame = faces.frame.copy()
    swapped = (frame["split"] == "train") & (frame.index // 2 % 2 == 0)
    other = frame["gender"].map({"Male": "Female", "Female": "Male"})
    frame["gender"] = pd.Categorical(frame["gender"].mask(swapped, other), categories=["Male", "Female"])
    faces = replace(faces, frame=frame)
    right = ~swapped[(frame["split"] == "train") & frame["trainable"]].to_numpy()
    spec = make_spec(training__epochs=10, training__learning_rate=5e-3, training__patience=10, tasks=["gender"])
    plain = train(faces, spec, tmp_path / "plain")
    even = train(faces, spec, tmp_path / "even", sample_weights={"gender": np.ones(len(right))})
    told = train(faces, spec, tmp_path / "told", sample_weights={"gender": np.where(right, 1.0, 1e-6)})
    fooled = train(faces, spec, tmp_path / "fooled", sample_weights={"gender": np.where(right, 1e-6, 1.0)})
    assert same(plain, even)
    assert told.history["val_accuracy_gender"].iloc[-1] == 1.0
    assert fooled.history["val_accuracy_gender"].iloc[-1] == 0.0
    assert told.meta["weighted_tasks"] == ["gender"]


@pytest.mark.parametrize("values", [[1.0], [0.0] * 100, [float("nan")] * 100])
def test_bad_sample_weights_are_refused(faces: FaceTable, tmp_path: Path, values: list[float]) -> None:
    """Wrong length, zero and NaN are usage errors."""
    with pytest.raises(UsageError, match="one finite weight above 0"):
        train(faces, make_spec(), tmp_path / "c", sample_weights={"gender": np.array(values)})


def test_a_fully_masked_split_of_a_task_is_no_error(faces: FaceTable, tmp_path: Path) -> None:
    """Half the race labels missing: training works, and validation counts only what is labelled."""
    frame = faces.frame.copy()
    frame.loc[frame.index % 2 == 0, "race"] = None
    made = train(replace(faces, frame=frame), make_spec(training__epochs=1), tmp_path / "c")
    assert sum(made.meta["data"]["counts"]["train"]["labels"]["race"].values()) < len(made.trained_on["train"])


def test_data_that_cannot_be_trained_on_are_refused(faces: FaceTable, tmp_path: Path) -> None:
    """One label only, no validation face, an unknown task: each is said before any training."""
    one = faces.frame.assign(gender=pd.Categorical(["Male"] * len(faces), categories=["Male", "Female"]))
    with pytest.raises(DataError, match="two are needed"):
        train(replace(faces, frame=one), make_spec(), tmp_path / "c")
    none = faces.frame[faces.frame["split"] != "val"]
    with pytest.raises(DataError, match="split 'val' holds no face"):
        train(replace(faces, frame=none), make_spec(), tmp_path / "c")
    with pytest.raises(UsageError, match="did you mean 'gender'"):
        train(faces, make_spec(tasks=["gendre"]), tmp_path / "c")
    assert list(tmp_path.iterdir()) == []


def test_settings_that_contradict_each_other_are_refused(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """Blocks to train without weights, nothing to train, and a missing axis are usage errors."""
    with pytest.raises(UsageError, match="trainable_blocks belongs to a pretrained backbone"):
        train(faces, make_spec(model__trainable_blocks=1), tmp_path / "c")
    idle = make_spec(**{**PRETRAINED, "training__head_epochs": 0, "training__epochs": 0})
    with pytest.raises(UsageError, match="nothing to train"):
        train(faces, idle, tmp_path / "c", weights_folders=[weights])
    with pytest.raises(UsageError, match="did you mean 'gender'"):
        train(faces, make_spec(training__task_weights={"gendre": 2.0}), tmp_path / "c")
    with pytest.raises(UsageError, match=r"needs training\.select_by"):
        train(faces, make_spec(training__select="worst-subgroup"), tmp_path / "c")
    with pytest.raises(UsageError, match="no attribute 'hairs'"):
        train(faces, make_spec(training__select="worst-subgroup", training__select_by="hairs"), tmp_path / "c")


def test_an_exploding_loss_stops_with_its_batch(faces: FaceTable, tmp_path: Path) -> None:
    """A loss that is no number ends training with stage, epoch, batch and its images, and leaves no checkpoint."""
    with pytest.raises(FairauditError, match=r"epoch 1, batch \d+ of 2 of stage 'all'.*pictures/\d+\.png, ") as error:
        train(faces, make_spec(training__learning_rate=1e30, training__head_learning_rate=1e30), tmp_path / "c")
    assert not (tmp_path / "c").exists()
    named = (tmp_path / "c.training" / "stopped_batch.txt").read_text().split()
    assert len(named) == 12
    assert set(named) <= set(faces.frame["image"][faces.frame["split"] == "train"])
    assert named[0] in str(error.value)


@pytest.mark.parametrize("where", ["training", "validation"])
def test_after_a_broken_epoch_the_last_good_one_goes_on(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Not a number in epoch 2, in a batch or only found at its end: the state on disk is epoch 1's, and leads to the
    model of an undisturbed run."""
    spec = make_spec(training__epochs=3, training__patience=9)
    whole = train(faces, spec, tmp_path / "whole")
    counts = {"training": 0, "validation": 0}
    real_loss, real_judge = loop.loss_of, Judge.judge

    def loss(*args: Any) -> torch.Tensor:
        counts["training"] += 1
        return real_loss(*args) * (float("nan") if where == "training" and counts["training"] == 3 else 1.0)

    def judge(self: Judge, probs: Any) -> Verdict:
        counts["validation"] += 1
        broken = where == "validation" and counts["validation"] == 2
        return real_judge(self, {task: values * float("nan") for task, values in probs.items()} if broken else probs)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "loss_of", loss)
        patch.setattr(Judge, "judge", judge)
        with pytest.raises(FairauditError, match="reached by epoch 1 of stage 'all' is kept"):
            train(faces, spec, tmp_path / "cut")
    made = train(faces, spec, tmp_path / "cut")
    assert any("continued after epoch 1" in note for note in made.meta["notes"])
    assert same(whole, made)


def test_full_memory_halves_the_batch_and_goes_on(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Out of memory in the middle of epoch 2: the epoch starts again in half batches, which is noted, also where the
    run is killed later; epoch 1 stays as it was."""
    spec = make_spec(training__epochs=3, training__patience=9, training__mixup=0.3)
    plain = train(faces, spec, tmp_path / "plain")
    sizes: list[int] = []
    real = loop.loss_of

    def loss(logits: Any, targets: Any, rows: torch.Tensor, batch: torch.Tensor | None) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) == 12 and len(sizes) > 7:  # with mixup each batch asks twice: the second batch of epoch 2
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(logits, targets, rows, batch)

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if (stage, done) == ("train all", 2) and "loss" in note:
            raise Killed

    made = []
    for name, progress in (("whole", silent), ("cut", kill)):
        sizes.clear()
        with monkeypatch.context() as patch:
            patch.setattr(loop, "loss_of", loss)
            if name == "cut":
                with pytest.raises(Killed):
                    train(faces, spec, tmp_path / name, progress=progress)
                sizes.clear()
            made.append(train(faces, spec, tmp_path / name))
    assert same(made[0], made[1])
    assert [sum("batches of 6, not 12" in note for note in one.meta["notes"]) for one in made] == [1, 1]
    assert made[0].history["train_loss"][0] == plain.history["train_loss"][0]
    assert made[0].history["train_loss"][1] != plain.history["train_loss"][1]
    assert set(sizes) == {6}


@pytest.mark.parametrize("error", [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError()])
def test_memory_that_is_full_for_two_faces_is_an_error(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Down to batches of 2 or 3, then a sentence; any other error is not taken for full memory."""

    def full(*args: object) -> torch.Tensor:
        raise error

    monkeypatch.setattr(loop, "loss_of", full)
    with pytest.raises(FairauditError, match="memory is full even with batches of 3 faces"):
        train(faces, make_spec(), tmp_path / "c")
    error.args = ("shapes do not fit",)
    if isinstance(error, RuntimeError):
        with pytest.raises(RuntimeError, match="shapes do not fit"):
            train(faces, make_spec(), tmp_path / "c")


def test_deterministic_training_is_on_only_while_it_trains(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flag is set within, also on a CPU, whose result it does not change, and an operation without such a way is
    named."""
    seen: list[bool] = []
    watch = lambda *a: seen.append(torch.are_deterministic_algorithms_enabled()) if a[0] == "train all" else None  # noqa: E731
    plain = train(faces, make_spec(), tmp_path / "a")
    exact = train(faces, make_spec(training__deterministic=True), tmp_path / "b", progress=watch)
    assert same(plain, exact)
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()

    def refuse(*args: object) -> torch.Tensor:
        raise RuntimeError("x_backward does not have a deterministic implementation, but you set it")

    monkeypatch.setattr(loop, "loss_of", refuse)
    with pytest.raises(UsageError, match="cannot be kept on cpu: x_backward"):
        train(faces, make_spec(training__deterministic=True), tmp_path / "d")
    assert not torch.are_deterministic_algorithms_enabled()


def test_curves_for_tensorboard(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """Every epoch of every stage once, also where the run was stopped and went on, equal to the history."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if (stage, done) == ("train upper", 1):
            raise Killed

    spec = make_spec(**PRETRAINED, training__patience=9, training__tensorboard=True)
    with pytest.raises(Killed):
        train(faces, spec, tmp_path / "c", weights_folders=[weights], progress=kill)
    made = train(faces, spec, tmp_path / "c", weights_folders=[weights])
    events = reading.EventAccumulator(str(tmp_path / "c.tensorboard"))
    events.Reload()
    for tag, column in (("loss/train", "train_loss"), ("accuracy/race", "val_accuracy_race")):
        scalars = events.Scalars(tag)
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
        assert [scalar.value for scalar in scalars] == pytest.approx(list(made.history[column]), rel=1e-6)


def test_a_missing_tensorboard_is_said_before_training(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package: how to install it; nothing is trained."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"pip install 'fairaudit\[tensorboard\]'"):
        train(faces, make_spec(training__tensorboard=True), tmp_path / "c")
    assert not (tmp_path / "c.training" / "state.pt").exists()


def test_cutmix_moves_the_model_and_survives_a_kill(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """On maps and images; the same seed gives the same model."""
    for more in (PRETRAINED, {}):
        spec = make_spec(**more, training__cutmix=1.0, training__mixup=0.2)
        made = [train(faces, spec, tmp_path / f"{i}{len(more)}", weights_folders=[weights]) for i in range(2)]
        assert same(*made)
        plain = train(faces, make_spec(**more), tmp_path / f"p{len(more)}", weights_folders=[weights])
        assert not same(made[0], plain)


def test_a_weights_file_that_fits_in_part_is_recorded(faces: FaceTable, weights: Path, tmp_path: Path) -> None:
    """What matched stands in the checkpoint and in its notes, with the frozen blocks that stay random."""
    state = torch.load(weights / "small.pt", weights_only=True)
    del state["0.0.weight"]
    torch.save({f"model.{name}": value for name, value in state.items()}, tmp_path / "part.pt")
    spec = make_spec(**{**PRETRAINED, "model__weights": "part.pt"}, model__weights_match="partial")
    made = [train(faces, spec, tmp_path / name, weights_folders=[tmp_path]) for name in "ab"]
    found = made[0].meta["backbone_weights"]["match"]
    assert found["missing"] == {"count": 1, "first": ["0.0.weight"]}
    assert (found["matched"]["count"], found["prefix"]) == (len(state), "model.")
    assert any("1 of the 2 frozen blocks keep random values" in note for note in made[0].meta["notes"])
    assert any("trainable_blocks = 4" in note for note in made[0].meta["notes"])
    assert same(*made)


@pytest.mark.parametrize("kind", ["softmax", "coral", "cumulative"])
def test_heads_of_every_kind_train_predict_and_are_audited(faces: FaceTable, tmp_path: Path, kind: str) -> None:
    """Ordered bins and years from one network: trained with smoothing and mixup, continued after a kill, saved, and
    audited in bins and in years, whose errors stand in the history, too."""

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if done == 1 and stage == "train all":
            raise Killed

    aged = with_ages(faces)
    spec = make_spec(
        model__shared=[16, 8], model__activation="gelu", training__mixup=0.3, training__label_smoothing=0.1,
        model__heads={"age": {"kind": kind, "years": "huber", "hidden": [8]}}, training__flip_test=True,
    )  # fmt: skip
    whole = train(aged, spec, tmp_path / "whole")
    with pytest.raises(Killed):
        train(aged, spec, tmp_path / "cut", progress=kill)
    made = train(aged, spec, tmp_path / "cut")
    assert same(whole, made)
    assert (made.history["val_mae_years"] > 0).all()
    path = predict(made, aged, tmp_path / "predictions.parquet", device="cpu")
    frame = pd.read_parquet(path)
    columns = [name for name in frame if name.startswith("age_prob_")]
    assert frame[columns].sum(axis=1).tolist() == pytest.approx([1.0] * len(frame), abs=1e-5)
    assert frame["age_true_years"].isna().sum() == aged.frame["age_years"].isna().sum()
    found = run_audit(read_predictions(path), audit=AuditSpec(subgroups=("gender",), min_group_size=5, draws=100))
    table = found.metrics
    rows = table[(table["task"] == "age") & (table["metric"] == "mae_years")]
    known = frame[["age_true_years", "age_pred_years"]].dropna()
    error = (known["age_pred_years"] - known["age_true_years"]).abs()
    overall = rows[rows["by"] == "overall"].iloc[0]
    assert overall["value"] == pytest.approx(error.mean())
    assert overall["low"] < overall["value"] < overall["high"]
    assert (rows["by"] == "gender").sum() == 2


def with_ages(faces: FaceTable) -> FaceTable:
    """Return the faces with a head of age bins and ages in years, of which a third is unknown."""
    years = 4.0 + np.arange(len(faces)) * 7 % 40
    bins = ("0-9", "10-19", "20+")
    labels = pd.Categorical.from_codes(np.digitize(years, [10, 20]), list(bins), ordered=True)
    years[::3] = np.nan
    frame = faces.frame.assign(age=labels, age_years=years)
    return replace(faces, frame=frame, tasks={**faces.tasks, "age": bins}, ordered=frozenset({"age"}))


def test_age_smoothing_trains_and_is_part_of_the_run(faces: FaceTable, tmp_path: Path) -> None:
    """Ages in years move the model, also with mixup; a state of another width is not continued."""

    def kill(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "train all":
            raise Killed

    aged = with_ages(faces)
    plain = train(aged, make_spec(training__mixup=0.4), tmp_path / "plain")
    with pytest.raises(Killed):
        train(aged, make_spec(training__mixup=0.4), tmp_path / "soft", progress=kill)
    soft = train(aged, make_spec(training__mixup=0.4, training__age_smoothing=3.0), tmp_path / "soft")
    assert not same(plain, soft)
    assert any("discarded" in note for note in soft.meta["notes"])
    assert any("taught by their years" in note for note in soft.meta["notes"])
    assert not any("taught by their years" in note for note in plain.meta["notes"])


def test_the_worst_subgroup_decides(faces: FaceTable) -> None:
    """The score is the worst large subgroup's accuracy; small ones are named and left out."""
    frame = pd.DataFrame(
        {
            "gender": pd.Categorical(["Male"] * 30, categories=["Male", "Female"]),
            "hair": ["short"] * 15 + ["long"] * 12 + ["none"] * 3,
        }
    )
    table = replace(faces, frame=frame, tasks={"gender": ("Male", "Female")})
    spec = TrainingSpec(select="worst-subgroup", select_by="hair")
    judge, notes = make_judge(table, ["gender"], spec)
    male = torch.ones(30)
    male[15:18] = 0
    male[27:] = 0
    verdict = judge.judge({"gender": torch.stack([male, 1 - male], 1)})
    assert verdict.score == pytest.approx(9 / 12)
    assert verdict.accuracy == {"gender": pytest.approx(24 / 30)}
    assert "none (3)" in notes[0]
    with pytest.raises(DataError, match="no subgroup"):
        make_judge(replace(table, frame=frame[:5]), ["gender"], spec)


def test_devices_and_formats() -> None:
    """Unknown and absent devices are usage errors; "auto" settles on something that is there."""
    assert pick_device("cpu").type == "cpu"
    assert pick_dtype("fp32", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cpu")) in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match="unknown device"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        assert pick_device("auto").type == "cpu"
        with pytest.raises(UsageError, match="not available"):
            pick_device("cuda")


def test_early_stopping(faces: FaceTable, tmp_path: Path) -> None:
    """Training ends after `patience` further epochs without improvement, and the best epoch is the one kept."""
    spec = make_spec(training__epochs=40, training__learning_rate=1e-12, training__head_learning_rate=1e-12,
                     training__patience=2)  # fmt: skip
    made = train(faces, spec, tmp_path / "c")
    best = made.history["val_score"].idxmax()
    assert made.history["selected"].idxmax() == best
    assert len(made.history) == best + 1 + 2
    (note,) = [note for note in made.meta["notes"] if "patience" in note]
    assert f"after epoch {best + 3} of 40" in note and "training.patience (now 2)" in note


def test_a_folder_of_something_else_is_not_replaced(faces: FaceTable, tmp_path: Path) -> None:
    """A checkpoint takes the place of a checkpoint only; said before anything is trained."""
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not a fairaudit checkpoint"):
        train(faces, make_spec(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
