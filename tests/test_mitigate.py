"""`fairaudit mitigate`: fitted without a test face, resumed, refused in words; kept heads are checkpoints like any."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_faces import make_faces, make_spec

from fairaudit import mitigate, mitigate_plan
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import DataError, UsageError
from fairaudit.mitigate import fit_all, keep_checkpoint, predict_test, run_mitigate
from fairaudit.mitigate_compare import comparison_folder
from fairaudit.mitigate_files import fitted_heads, predictions_path, reads_of_test, validation_path
from fairaudit.mitigate_plan import Mitigating, make_plan, prepare
from fairaudit.mitigation.methods import METHODS, Method
from fairaudit.mitigation.problem import PREDICTORS, Answers, Fitted, Problem
from fairaudit.models.backbones import build_backbone
from fairaudit.models.changed import ChangedModel
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.inference import predict
from fairaudit.models.refitting import refitted_checkpoint
from fairaudit.pipeline import Run
from fairaudit.spec import ModelSpec, Spec
from fairaudit.stages import claim_run

COUNT = 300


@pytest.fixture(scope="module")
def faces_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up pictures with a manifest, and weights of a backbone beside them."""
    root = tmp_path_factory.mktemp("faces")
    faces = make_faces(root, count=COUNT)
    faces.frame[["image", "gender", "race", "hair"]].to_csv(root / "manifest.csv", index=False)
    weights = root.parent / "weights"
    weights.mkdir(exist_ok=True)
    torch.manual_seed(0)
    built = build_backbone(ModelSpec(backbone="small_cnn", weights="none", image_size=32))
    torch.save(built.blocks.state_dict(), weights / "tiny.pt")
    return root


def a_spec(**more: object) -> Spec:
    """Return the spec of a few heads on a backbone with weights."""
    return make_spec(
        tasks=["gender", "race"],
        data={"dataset": "manifest", "manifest": "manifest.csv"},
        split={"train": 0.6, "val": 0.2},
        model__weights="tiny.pt",
        training__augmented_views=1,
        audit={"subgroups": ["race", "hair"], "min_group_size": 5},
        mitigate={"by": "race", "seeds": 2, "epochs": 3, "methods": ["erm"], **more},
    )


def a_work(root: Path, out: Path, spec: Spec | None = None, **more: object) -> Mitigating:
    """Return a call of `fairaudit mitigate`."""
    said: list[str] = []
    job = Run(spec=spec or a_spec(), root=root, out=out, weights_folders=(root.parent / "weights",), say=said.append)
    claim_run(out, "test")
    return Mitigating(job=job, **more)  # type: ignore[arg-type]


def by_group(problem: Problem) -> Fitted:
    """A method for these tests: the first class for the first subgroup, the last class for every other."""
    count = len(problem.classes)
    return Fitted(kind="by group", arrays={"count": np.array(count)}, uses_group=True, notes=("a toy",))


def answer_by_group(arrays, x, g):  # type: ignore[no-untyped-def]
    """What `by_group` decides; probabilities say otherwise, because its decision is not their largest."""
    count = int(arrays["count"])
    return Answers(np.full((len(x), count), 1 / count), np.where(g == 0, 0, count - 1))


@pytest.fixture
def toy_method(monkeypatch: pytest.MonkeyPatch) -> str:
    """A method that decides by subgroup."""
    monkeypatch.setitem(
        METHODS, "toy", Method(fit=by_group, stage="post", groups_at=("test",), summary="toy", source="", any_axis=True)
    )
    monkeypatch.setitem(PREDICTORS, "by group", answer_by_group)
    return "toy"


def test_seeds_divide_training_and_validation_anew_and_never_touch_test(faces_folder: Path, tmp_path: Path) -> None:
    """The pool holds no test face; two seeds differ; shares and strata stay; the same seed gives the same division."""
    work = a_work(faces_folder, tmp_path / "out")
    pool = prepare(work)
    test = FaceTable.load(tmp_path / "out" / "data" / "test.parquet", faces_folder)
    whole = {*pool.frame["image"], *test.frame["image"]}
    assert len(whole) == COUNT and set(pool.frame["split"]) == {"train", "val"}
    one, two, again = (mitigate.divided(work, pool, seed).frame for seed in (1, 2, 1))
    assert set(one["image"]) == set(pool.frame["image"])
    assert (one["split"] == again["split"]).all() and (one["split"] != two["split"]).any()
    shares = [(frame["split"] == "val").mean() for frame in (one, two)]
    assert shares == pytest.approx([0.25, 0.25], abs=0.02)
    assert pd.crosstab(one["race"], one["split"])["val"].min() >= 18


def test_test_faces_change_nothing_that_is_fitted(
    faces_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the test faces gone, or their labels turned over, the fitted heads are the same bits; they are read once."""
    opened = []
    original = FaceTable.load

    def load(path: Path, root: Path) -> FaceTable:
        opened.append(path.name)
        return original(path, root)

    monkeypatch.setattr(FaceTable, "load", load)
    bits = {}
    for kind in ("as it is", "absent", "poisoned"):
        out = tmp_path / kind
        work = a_work(faces_folder, out)
        pool = prepare(work)
        test = out / "data" / "test.parquet"
        kept = test.read_bytes()
        if kind == "absent":
            test.unlink()
        if kind == "poisoned":
            faces = original(test, faces_folder)
            turned = faces.frame["gender"].map({"Male": "Female", "Female": "Male"}).astype(faces.frame["gender"].dtype)
            replace(faces, frame=faces.frame.assign(gender=turned, image="nowhere.png")).save(test)
        plan = make_plan(work, pool)
        opened.clear()
        fit_all(work, pool, plan)
        assert opened == []
        bits[kind] = [(out / "mitigated" / "erm" / f"{seed}.safetensors").read_bytes() for seed in work.seeds] + [
            json.loads((out / "mitigated" / "erm" / "1.json").read_text())["heads"][0]["tried"]
        ]
        test.write_bytes(kept)
        predict_test(work, plan)
        predict_test(work, plan)
        assert opened == ["test.parquet"] and len(reads_of_test(out)) == 1
    again = a_work(faces_folder, out, a_spec(epochs=2))
    fit_all(again, prepare(again), plan)
    monkeypatch.setattr(mitigate, "embeddings_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict_test(again, plan)
    assert len(reads_of_test(out)) == 2  # opened, though nothing came of it
    assert bits["absent"] == bits["as it is"] and bits["poisoned"] == bits["as it is"]


def interrupted(*_: object) -> None:
    """Somebody presses Ctrl-C."""
    raise KeyboardInterrupt


def test_a_second_call_fits_nothing_and_a_changed_setting_fits_again(
    faces_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages are skipped while their inputs are the same; what was fitted before an interruption stays."""
    fitted: list[tuple[str, str, int]] = []
    original = mitigate.refit

    def refit(method: str, problem: Problem):  # type: ignore[no-untyped-def]
        if len(fitted) == 1 and stop:
            raise KeyboardInterrupt
        fitted.append((method, problem.task, problem.seed))
        return original(method, problem)

    monkeypatch.setattr(mitigate, "refit", refit)

    def go(spec: Spec) -> None:
        work = a_work(faces_folder, tmp_path / "out", spec)
        pool = prepare(work)
        fit_all(work, pool, make_plan(work, pool))

    stop = True
    with pytest.raises(KeyboardInterrupt):
        go(a_spec())
    stop = False
    go(a_spec())
    assert fitted == [("erm", "gender", 1), ("erm", "gender", 2)]
    go(a_spec())
    assert len(fitted) == 2
    go(a_spec(epochs=4))
    assert len(fitted) == 4


def test_predictions_are_the_public_table(faces_folder: Path, tmp_path: Path) -> None:
    """Test faces only, with labels, classes and attributes; validation predictions are those of the seed's division."""
    work = a_work(faces_folder, tmp_path)
    pool = prepare(work)
    plan = make_plan(work, pool)
    fit_all(work, pool, plan)
    predict_test(work, plan)
    table = read_predictions(predictions_path(tmp_path, "erm", 1))
    assert len(table) == COUNT - len(pool) and set(table.tasks) == {"gender"}
    assert {"race", "hair", "gender"} <= set(table.attributes)
    probs = table.frame[["gender_prob_Male", "gender_prob_Female"]].to_numpy()
    assert np.allclose(probs.sum(1), 1, atol=1e-5)
    assert (table.frame["gender_pred"] == table.frame["gender_true"]).mean() > 0.9
    val = read_predictions(validation_path(tmp_path, 2))
    divided = mitigate.divided(work, pool, 2).frame
    assert set(val.frame["image"]) == set(divided.loc[divided["split"] == "val", "image"])


def test_what_cannot_be_had_is_refused_before_anything_is_trained(
    faces_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown names, a head that the axis determines, a binary method for three classes, a backbone without weights."""
    monkeypatch.setattr(mitigate, "refit", None)
    monkeypatch.setitem(
        METHODS,
        "two",
        Method(fit=by_group, stage="in", groups_at=(), summary="", source="", binary_only=True, any_axis=True),
    )

    def plan(**more: object):  # type: ignore[no-untyped-def]
        work = a_work(faces_folder, tmp_path / "out", a_spec(**more))
        mitigate_plan.check_mitigate(work.job.spec, None)
        return make_plan(work, prepare(work))

    with pytest.raises(UsageError, match="the spec has a table `sweep`: run `fairaudit sweep`"):
        mitigate_plan.check_mitigate(a_spec().model_copy(update={"sweep": {"model.dropout": (0.1, 0.2)}}), None)
    with pytest.raises(UsageError, match=r"mitigate\.cap = 3 is heeded by none of undersampling"):
        plan(methods=["undersampling"], cap=3.0)
    plan(methods=["undersampling", "reweighing"], cap=3.0)
    with pytest.raises(UsageError, match=r"mitigate\.dropout is of a hidden layer, and hidden = 0 has none"):
        plan(dropout=0.1)
    with pytest.raises(UsageError, match="unknown mitigation of heads 'ermm'; did you mean 'erm'"):
        plan(methods=["ermm"])
    with pytest.raises(UsageError, match=r"unknown head in mitigate.tasks 'age'"):
        plan(tasks=["age"])
    with pytest.raises(UsageError, match="two is for heads of two classes, and race has 3"):
        plan(methods=["two"], tasks=["race"], by="hair")
    with pytest.raises(UsageError, match="no attribute 'skin'"):
        plan(by="skin")
    listed = plan(methods=[], by="hair")
    assert ("race", "two") in {row[:2] for row in listed.refused} and "two" in listed.heads["gender"]
    assert any("race: left out, because" in note for note in plan().notes)
    assert plan(tasks=["race"], by="race").heads == {"race": ("erm",)}
    with pytest.raises(UsageError, match="no pretrained weights"):
        a_work(faces_folder, tmp_path / "x", make_spec())


def test_every_seeds_own_division_is_looked_at_before_anything_is_trained(
    faces_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that the faces of the second seed do not allow is not begun, by name or of all; what is thin is said."""
    monkeypatch.setattr(mitigate, "refit", None)
    seen = {}

    def refuse(problem: Problem) -> str | None:
        seen[problem.seed, problem.task] = problem.val.y
        return "too thin" if problem.seed == 2 else None

    def caution(problem: Problem) -> tuple[str, ...]:
        return (f"{problem.seed} thin subgroups", *(("one more",) if problem.seed == 2 else ()))

    told = Method(fit=by_group, stage="in", groups_at=(), summary="", source="", any_axis=True, caution=caution)
    monkeypatch.setitem(METHODS, "told", told)
    monkeypatch.setitem(METHODS, "picky", replace(told, refuse=refuse))
    work = a_work(faces_folder, tmp_path / "out", a_spec(methods=["picky", "told"], tasks=["gender"]))
    pool = prepare(work)
    with pytest.raises(UsageError, match=r"too thin \(seed 2\)"):
        make_plan(work, pool)
    for seed in (1, 2):
        own = mitigate.divided(work, pool, seed).frame
        np.testing.assert_array_equal(seen[seed, "gender"], own.loc[own["split"] == "val", "gender"].cat.codes)
    whole = a_work(faces_folder, tmp_path / "out", a_spec(methods=["picky", "told"]))
    with pytest.raises(UsageError, match=r"too thin \(seed 2\)"):
        make_plan(whole, pool)
    free = make_plan(a_work(faces_folder, tmp_path / "out", a_spec(methods=[])), pool)
    assert ("gender", "picky", "too thin (seed 2)") in free.refused and "told" in free.heads["gender"]
    thin = [note for note in free.notes if note.startswith("gender, told")]
    assert thin == ["gender, told: 1 thin subgroups", "gender, told: one more (seed 2)"]


def test_plain_training_alone_is_refused_or_says_that_nothing_is_compared(faces_folder: Path, tmp_path: Path) -> None:
    """`erm` compares with nothing: refused before a folder is made; to keep its head it is fitted, and that is said."""
    out = tmp_path / "out"
    spec = a_spec(seeds=1)
    job = Run(spec=spec, root=faces_folder, out=out, weights_folders=(faces_folder.parent / "weights",))
    with pytest.raises(UsageError, match="'erm' is plain training, which always runs"):
        run_mitigate(Mitigating(job=job))
    assert not out.exists()
    page, lines = run_mitigate(Mitigating(job=job), keep="erm")
    assert len(lines) == 1 and lines[0].startswith("Nothing is compared: no method beside plain training")
    assert "Nothing is compared" in page.read_text(encoding="utf-8")


def test_heads_of_like_names_have_folders_of_their_own(tmp_path: Path) -> None:
    """Spaces, dashes and dots: all inside `comparison`, none shared, plain names as they are."""
    names = ["age group", "age-group", "age  group", "age/group", "..", ".", "gender", "Alter über 30"]
    places = [comparison_folder(tmp_path, name) for name in names]
    assert len(set(places)) == len(names)
    assert all(place.resolve().parent == (tmp_path / "comparison").resolve() for place in places)
    assert places[1].name == "age-group" and places[6].name == "gender"


@pytest.mark.parametrize("looks", [{}, {"zoom_test": (0.7, 1.4), "flip_test": True}])
def test_a_kept_head_is_a_checkpoint_that_answers_as_it_did(faces_folder: Path, tmp_path: Path, looks: dict) -> None:
    """`predict` gives the answers of the test predictions, also where faces are looked at more than once; the division
    and the faces it was trained on are known.
    """
    spec = a_spec()
    work = a_work(faces_folder, tmp_path, spec.model_copy(update={"training": spec.training.model_copy(update=looks)}))
    pool = prepare(work)
    plan = make_plan(work, pool)
    fit_all(work, pool, plan)
    predict_test(work, plan)
    kept = load_checkpoint(keep_checkpoint(work, pool, plan, "erm"))
    assert kept.meta["split_hash"] == pool.meta["split_hash"] and kept.classes["gender"] == ("Male", "Female")
    divided = mitigate.divided(work, pool, 1).frame
    assert len(kept.trained_on["val"]) == (divided["split"] == "val").sum()
    test = FaceTable.load(tmp_path / "data" / "test.parquet", faces_folder)
    table = read_predictions(predict(kept, test, tmp_path / "again.parquet", device="cpu"))
    wanted = read_predictions(predictions_path(tmp_path, "erm", 1))
    assert (table.frame["gender_pred"] == wanted.frame["gender_pred"]).all()
    assert np.allclose(table.frame["gender_prob_Male"], wanted.frame["gender_prob_Male"], atol=1e-4)
    same = ChangedModel(model=kept, root=faces_folder, change=lambda pixels, image: pixels, key={})
    through = read_predictions(predict(same, test, tmp_path / "through.parquet", device="cpu"))
    assert (through.frame["gender_pred"] == wanted.frame["gender_pred"]).all()
    pixels = torch.zeros(2, 32, 32, 3, dtype=torch.uint8)
    network = kept.network
    with torch.no_grad():
        logits = network(network.prepare(pixels))["gender"]
        embedded = network.embed(network.prepare(pixels)).numpy()
    expected = fitted_heads(tmp_path, "erm", 1)[0].fitted.predict(embedded).probabilities
    assert np.allclose(logits.softmax(1).numpy(), expected, atol=1e-5)


def test_a_head_that_decides_by_subgroup_reads_the_column_or_is_refused(
    faces_folder: Path, tmp_path: Path, toy_method: str
) -> None:
    """Its labels are its own, not the largest probabilities; without the attribute it is refused; no gradients."""
    work = a_work(faces_folder, tmp_path, a_spec(methods=[toy_method]))
    pool = prepare(work)
    plan = make_plan(work, pool)
    fit_all(work, pool, plan)
    kept = load_checkpoint(keep_checkpoint(work, pool, plan, toy_method))
    test = FaceTable.load(tmp_path / "data" / "test.parquet", faces_folder)
    table = read_predictions(predict(kept, test, tmp_path / "p.parquet", device="cpu"))
    first = table.frame["race"].astype(str) == "A"
    assert (table.frame.loc[first, "gender_pred"] == "Male").all()
    assert (table.frame.loc[~first, "gender_pred"] == "Female").all()
    assert any("decides by it" in note for note in table.meta["notes"])
    blind = replace(test, frame=test.frame.drop(columns="race"), tasks={"gender": test.tasks["gender"]})
    with pytest.raises(UsageError, match="race"):
        predict(kept, blind, tmp_path / "q.parquet", device="cpu")
    assert not (tmp_path / "q.parquet").exists()
    with pytest.raises(UsageError, match=r"follows gradients.*no layer"):
        kept.network  # noqa: B018


def test_damaged_heads_of_a_checkpoint_are_refused(faces_folder: Path, tmp_path: Path) -> None:
    """Missing, cut off, of another width, of an unknown kind: a sentence each, and nothing is loaded."""
    work = a_work(faces_folder, tmp_path)
    pool = prepare(work)
    plan = make_plan(work, pool)
    fit_all(work, pool, plan)
    folder = keep_checkpoint(work, pool, plan, "erm")
    arrays, described = folder / "heads.safetensors", folder / "heads.json"
    whole, text = arrays.read_bytes(), described.read_text()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(folder)
    arrays.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        load_checkpoint(folder)
    arrays.write_bytes(whole)
    for change, message in (
        ({"kind": "pickle"}, "unknown kind of head"),
        ({"task": "mood"}, "other classes"),
        ({"classes": ["Male", "Female", "Other"]}, "other classes"),
    ):
        raw = json.loads(text)
        raw["heads"][0] |= change
        described.write_text(json.dumps(raw))
        with pytest.raises(DataError, match=message):
            load_checkpoint(folder)
    assert '"seed": 1,' in text
    described.write_text(text.replace('"seed": 1,', '"seed": 1e999,'))
    with pytest.raises(DataError, match="does not describe the heads"):
        load_checkpoint(folder)
    described.write_text(text)
    head = fitted_heads(tmp_path, "erm", 1)[0]
    odd = dict(head.fitted.arrays) | {"bias": np.stack([head.fitted.arrays["bias"]] * 2)}  # fits two faces only
    mitigate.save_heads([replace(head, fitted=replace(head.fitted, arrays=odd))], folder / "heads")
    with pytest.raises(DataError, match="cannot be asked"):
        load_checkpoint(folder)
    narrow = {name: values[..., :5] if name == "weight" else values for name, values in head.fitted.arrays.items()}
    mitigate.save_heads([replace(head, fitted=replace(head.fitted, arrays=narrow))], folder / "heads")
    with pytest.raises(DataError, match="cannot be asked"):
        load_checkpoint(folder)


def test_heads_of_a_refitted_checkpoint_stay_when_another_is_refitted(faces_folder: Path, tmp_path: Path) -> None:
    """One head refitted once more: it answers anew, the other as before, and both are described."""
    work = a_work(faces_folder, tmp_path, a_spec(by="hair"))
    pool = prepare(work)
    plan = make_plan(work, pool)
    assert set(plan.heads) == {"gender", "race"}
    fit_all(work, pool, plan)
    kept = load_checkpoint(keep_checkpoint(work, pool, plan, "erm"))
    other = [head for head in fitted_heads(tmp_path, "erm", 2) if head.task == "gender"]
    again = load_checkpoint(refitted_checkpoint(kept, other, tmp_path / "again").folder)
    assert {head.task: head.seed for head in again.refitted} == {"gender": 2, "race": 1}
    tables = {}
    for name, model in (("kept", kept), ("again", again)):
        test = FaceTable.load(tmp_path / "data" / "test.parquet", faces_folder)
        tables[name] = read_predictions(predict(model, test, tmp_path / f"{name}.parquet", device="cpu")).frame
    for race in ("A", "B", "C"):
        assert (tables["again"][f"race_prob_{race}"] == tables["kept"][f"race_prob_{race}"]).all()
    assert (tables["again"]["gender_prob_Male"] != tables["kept"]["gender_prob_Male"]).any()


def test_heads_that_the_checkpoint_lacks_are_told_apart(faces_folder: Path, tmp_path: Path) -> None:
    """A head of the spec that the checkpoint was not trained for is not mitigated, and known by name."""
    work = a_work(faces_folder, tmp_path, a_spec(by="hair"))
    checkpoint = SimpleNamespace(classes={"gender": ("Male", "Female")})
    asked = SimpleNamespace(settings=work.settings, job=work.job, checkpoint=checkpoint)
    assert mitigate_plan._tasks(asked, prepare(work)) == (("gender",), ("race",))  # type: ignore[arg-type]
