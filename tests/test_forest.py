"""Classical baselines: the arrays answer as the libraries that grew the trees, and are audited like any model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.ensemble import RandomForestClassifier
from tiny_faces import make_faces, make_spec

from fairaudit.attribution.attribute import attribute
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.models import forest_training
from fairaudit.models import trees as trees_module
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.forest import PixelForest
from fairaudit.models.inference import predict
from fairaudit.models.training import train
from fairaudit.models.trees import Trees, checked_trees, from_sklearn, from_xgboost
from fairaudit.spec import AttributionSpec, Spec


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """A hundred and twenty pictures, split."""
    return make_faces(tmp_path_factory.mktemp("faces"), count=120)


def forest_spec(backbone: str = "pca-random-forest", forest: dict[str, object] | None = None, **more: object) -> Spec:
    """Return the spec of a small forest; the tiny network's own settings are taken out."""
    model = {"backbone": backbone, "image_size": 32, "forest": {"components": 8, "trees": 12, **(forest or {})}}
    return make_spec(model=model, training={"class_weights": True, **more})


def table(seed: int, rows: int, columns: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features on a coarse grid, so that many faces lie on a threshold; labels of classes 0, 2, 3; weights."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 8, (rows, columns)).astype(np.float32) / np.float32(7)
    y = np.array([0, 2, 3])[(x[:, 0] * 2.9).astype(int)]
    return x, np.where(rng.random(rows) < 0.2, 2, y), rng.uniform(0.1, 5, rows)


@pytest.mark.parametrize("seed", range(5))
def test_a_random_forest_answers_as_sklearn(seed: int) -> None:
    """Every probability equals sklearn's, on faces it was grown on, between them and on thresholds; unseen class 0."""
    x, y, weights = table(seed, 300)
    forest = RandomForestClassifier(25, min_samples_leaf=2, random_state=seed).fit(x, y, sample_weight=weights)
    fresh = np.random.default_rng(seed + 100).random((600, x.shape[1])).astype(np.float32)
    edges = np.concatenate([tree.tree_.threshold for tree in forest.estimators_]).astype(np.float32)
    on_edges = np.repeat(edges[:400, None], x.shape[1], axis=1)
    for part in (x, fresh, on_edges):
        ours = from_sklearn(forest, 5).mean(part)
        assert np.abs(ours[:, [0, 2, 3]] - forest.predict_proba(part)).max() < 1e-12
        assert (ours[:, [1, 4]] == 0).all()


@pytest.mark.parametrize("classes", [2, 4])
def test_boosted_trees_answer_as_xgboost(classes: int) -> None:
    """The softmax of the summed leaves is xgboost's own probability, for faces on thresholds, too."""
    xgboost = pytest.importorskip("xgboost")
    x, y, weights = table(3, 400)
    labels = np.minimum(y, classes - 1)
    model = xgboost.XGBClassifier(
        objective="multi:softprob", num_class=classes, base_score=0.0, n_estimators=15, max_depth=4, learning_rate=0.3
    )
    settings = model.get_xgb_params() | {"num_class": classes}
    booster = xgboost.train(settings, xgboost.DMatrix(x, label=labels, weight=weights), 15)
    trees = from_xgboost(json.loads(booster.save_raw("json").decode()))
    scores = trees.total(x, classes)
    ours = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert np.abs(ours - booster.predict(xgboost.DMatrix(x))).max() < 1e-6
    assert len(trees.roots) == 15 * classes


@pytest.mark.parametrize("backbone", ["pca-random-forest", "pca-xgboost"])
def test_a_baseline_is_trained_stored_and_predicts_like_any_model(
    faces: FaceTable, tmp_path: Path, backbone: str
) -> None:
    """The checkpoint holds tensors and JSON only, is the same twice, and learns what the pictures show."""
    if backbone == "pca-xgboost":
        pytest.importorskip("xgboost")
    first = train(faces, forest_spec(backbone), tmp_path / "a")
    train(faces, forest_spec(backbone), tmp_path / "b")
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "model.safetensors", "model.json", "history.csv", "trained_on.json",
    }  # fmt: skip
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    assert isinstance(first.model, PixelForest)
    assert first.meta["validation"]["val_accuracy_gender"] == 1.0
    assert first.history["selected"].tolist() == [True]
    table = read_predictions(predict(first, faces.part("test"), tmp_path / "p.parquet"))
    right = table.frame["gender_pred"].astype(str) == table.frame["gender_true"].astype(str)
    assert right.mean() == 1.0
    probs = table.frame[[f"race_prob_{name}" for name in "ABC"]].to_numpy()
    assert np.allclose(probs.sum(1), 1, atol=1e-6)


def test_batches_of_any_size_give_the_same_answers(faces: FaceTable, tmp_path: Path) -> None:
    """A face's answer does not depend on the faces beside it."""
    made = train(faces, forest_spec(), tmp_path / "c")
    one = read_predictions(predict(made, faces, tmp_path / "1.parquet", batch_size=1))
    many = read_predictions(predict(made, faces, tmp_path / "64.parquet", batch_size=64))
    assert one.frame.equals(many.frame)


def test_the_mirrored_face_is_heeded(faces: FaceTable, tmp_path: Path) -> None:
    """With flip_test an answer is the mean of both views."""
    made = train(faces, forest_spec(flip_test=True), tmp_path / "c")
    assert isinstance(made.model, PixelForest)
    assert made.flip_test
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    plain, other = made.model.answer(pixels), made.model.answer(pixels[:, :, ::-1])
    both = made.model.answer(pixels, flip=True)
    assert np.allclose(both["race"], (plain["race"] + other["race"]) / 2)
    assert not np.array_equal(plain["race"], other["race"])


def test_weights_and_masked_labels_reach_the_trees(
    faces: FaceTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each head is fitted on its labelled faces alone, with sample weight × class weight."""
    frame = faces.frame.copy()
    frame.loc[frame.index % 4 == 1, "race"] = None
    masked = replace(faces, frame=frame)
    rows = masked.part("train").frame
    rows = rows[rows["trainable"]].reset_index(drop=True)
    weights = np.where(rows["race"] == "A", 3.0, 1.0)
    seen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    monkeypatch.setitem(
        forest_training._FITS,
        "pca-random-forest",
        lambda settings, seed: (
            lambda x, codes, w, classes: (
                seen.update({classes: (codes, w)})
                or forest_training._random_forest(settings, seed)(x, codes, w, classes)
            )
        ),
    )
    train(masked, forest_spec(), tmp_path / "c", sample_weights={"race": weights})
    codes, used = seen[3]
    known = rows["race"].notna().to_numpy()
    assert len(codes) == known.sum() < len(rows)
    counts = np.bincount(codes, minlength=3)
    assert np.allclose(used, weights[known] * (len(codes) / (3 * counts))[codes])
    assert len(seen[2][0]) == len(rows)


def test_attribution_does_not_apply_and_says_so(faces: FaceTable, tmp_path: Path) -> None:
    """A forest has no gradients."""
    made = train(faces, forest_spec(), tmp_path / "c")
    with pytest.raises(UsageError, match="no network"):
        attribute(made, faces.part("test"), by=["hair"], attribution=AttributionSpec(faces_per_head=4))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (make_spec(model={"backbone": "pca-random-forest", "shared": 16}), "model.shared"),
        (make_spec(model={"backbone": "pca-random-forest"}), "training.epochs"),
        (forest_spec(forest={"learning_rate": 0.3}), "forest.learning_rate"),
        (forest_spec("pca-xgboost", forest={"min_leaf": 9}), "forest.min_leaf"),
        (forest_spec(device="cuda"), "CPU"),
        (make_spec(model={"backbone": "pca-random-forest", "color": "bgr"}, training={}), "model.color"),
        (make_spec(model__forest={"trees": 5}), "belongs to pca-random-forest"),
    ],
)
def test_what_would_not_be_heeded_is_refused(faces: FaceTable, tmp_path: Path, spec: Spec, message: str) -> None:
    """No key of a spec is read by nothing, whichever kind of model it asks for."""
    with pytest.raises(UsageError, match=message):
        train(faces, spec, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_forest_runs_on_the_cpu_only(faces: FaceTable, tmp_path: Path) -> None:
    """Another device is refused, not silently exchanged."""
    made = train(faces, forest_spec(), tmp_path / "c")
    with pytest.raises(UsageError, match="runs on the CPU only"):
        predict(made, faces, tmp_path / "p.parquet", device="cuda")


def test_without_xgboost_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The optional package is named, with the extra that brings it, before any face is read."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(forest_training.importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"fairaudit\[xgboost\]"):
        forest_training.check_forest(forest_spec("pca-xgboost"))


@pytest.mark.parametrize(
    "damage",
    [
        ("trees.0.left", lambda x: np.zeros_like(x)),
        ("trees.0.right", lambda x: x + 10**6),
        ("trees.0.feature", lambda x: np.where(x >= 0, 10**6, x)),
        ("trees.1.values", lambda x: x[:1]),
        ("trees.1.values", lambda x: x * np.nan),
        ("trees.1.roots", lambda x: x - 5),
        ("trees.0.threshold", lambda x: x[1:]),
        ("trees.0.feature", lambda x: x.astype(np.float64)),
        ("mean", lambda x: x[1:]),
        ("components", lambda x: x * np.inf),
    ],
    ids=lambda damage: damage[0],
)
def test_damaged_trees_are_refused(faces: FaceTable, tmp_path: Path, damage: tuple) -> None:  # type: ignore[type-arg]
    """A stranger's arrays can send a face nowhere: no circle, no node or leaf outside, no other shape."""
    train(faces, forest_spec(), tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    arrays = load_file(path)
    name, change = damage
    with np.errstate(invalid="ignore"):
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    save_file(arrays, path)
    with pytest.raises(DataError, match=r"damaged|do not fit"):
        load_checkpoint(tmp_path / "c")


def chain(length: int, trees: int = 1) -> dict[str, np.ndarray]:
    """Return a tree in which every step but the last goes right, and that many roots at its first node."""
    inner = np.arange(length + 1) < length
    return {
        "roots": np.zeros(trees, dtype=np.int32),
        "adds_to": np.full(trees, -1, dtype=np.int32),
        "feature": np.where(inner, 0, -1).astype(np.int32),
        "threshold": np.zeros(length + 1, dtype=np.float32),
        "left": np.where(inner, length, 0).astype(np.int32),
        "right": np.where(inner, np.arange(length + 1) + 1, 0).astype(np.int32),
        "values": np.array([[0.25, 0.75]]),
    }


def test_trees_that_would_stop_a_machine_are_refused() -> None:
    """One root named a million times, and a way down of a million steps: both fit in a few megabytes of a file."""
    for arrays, said in ((chain(3, 5001), "5,001 trees, more than 5,000"), (chain(1001), "1,000 steps deep")):
        with pytest.raises(DataError, match=said):
            checked_trees(arrays, 1, 2, boosted=False, where="a file")
    trees = checked_trees(chain(1000, 5000), 1, 2, boosted=False, where="a file")
    np.testing.assert_array_equal(trees.mean(np.ones((3, 1), dtype=np.float32)), [[0.25, 0.75]] * 3)


def test_many_trees_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """So many leaves that few faces fit beside each other: the answers are those of all at once."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)).astype(np.float32), rng.integers(3, size=300)
    trees = from_sklearn(RandomForestClassifier(40, random_state=0).fit(x, y), 3)
    whole = trees.mean(x)
    sizes: list[int] = []
    leaves = Trees._leaves

    def counted(self: Trees, part: np.ndarray) -> np.ndarray:
        sizes.append(len(part))
        return leaves(self, part)

    monkeypatch.setattr(Trees, "_leaves", counted)
    monkeypatch.setattr(trees_module, "LARGEST", 7 * 40 * 3)
    np.testing.assert_array_equal(trees.mean(x), whole)
    assert max(sizes) == 7


def test_missing_trees_are_refused(faces: FaceTable, tmp_path: Path) -> None:
    """Weights of another model are said to lack what is needed."""
    train(faces, forest_spec(), tmp_path / "c")
    path = tmp_path / "c" / "model.safetensors"
    save_file({name: value for name, value in load_file(path).items() if not name.startswith("trees.1")}, path)
    with pytest.raises(DataError, match="lack"):
        load_checkpoint(tmp_path / "c")


def test_few_faces_give_few_components_with_a_note(faces: FaceTable, tmp_path: Path) -> None:
    """More components than faces cannot be had; the checkpoint says how many there are."""
    spec = forest_spec(forest={"components": 500})
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"color": "rgb"})})
    made = train(faces, spec, tmp_path / "c")
    assert isinstance(made.model, PixelForest)
    assert len(made.model.components) < 500
    assert made.model.components.shape[1] == 32 * 32 * 3
    assert any("instead of 500" in note for note in made.meta["notes"])
