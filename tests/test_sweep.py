"""Sweeps: every combination, ranked on validation faces alone, goes on after a stop, and refuses what would mislead."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_faces import make_faces, make_spec

from fairaudit import pipeline, sweep
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.pipeline import Run
from fairaudit.sweep import candidates, rank, run_sweep
from fairaudit.verification import verify

SWEPT = {"model.forest.trees": [2, 10], "model.forest.components": [1, 6]}
FOREST = {"backbone": "pca-random-forest", "image_size": 32}


def forests(**more: object) -> object:
    """Return a spec whose combinations take well under a second each."""
    return make_spec(model=FOREST, training={}, audit={"subgroups": ["hair"], "min_group_size": 5}, sweep=SWEPT, **more)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A sweep over made-up faces that are split already."""
    faces = make_faces(tmp_path / "faces", count=120)
    faces = replace(faces, meta={"data_hash": "d", "split_hash": "s"})

    def prepared(job: Run) -> FaceTable:
        path = job.out / "data" / "faces.parquet"
        faces.save(path)
        return faces

    monkeypatch.setattr(sweep, "prepare_faces", prepared)
    return Run(spec=forests(), root=tmp_path / "faces", out=tmp_path / "out")  # type: ignore[arg-type]


def test_every_combination_is_made_once() -> None:
    """The product of all values, each with its own name and with nothing else changed."""
    found = candidates(forests())  # type: ignore[arg-type]
    assert [(c.spec.model.forest.trees, c.spec.model.forest.components) for c in found] == [  # type: ignore[union-attr]
        (2, 1), (2, 6), (10, 1), (10, 6),
    ]  # fmt: skip
    assert len({c.name for c in found}) == 4
    assert all(c.spec.sweep == {} and c.spec.audit.subgroups == ("hair",) for c in found)


@pytest.mark.parametrize(
    ("swept", "message"),
    [
        ({}, "no .sweep. table"),
        ({"seed": [1, 2]}, "only keys of model and training"),
        ({"data.limit": [10, 20]}, "only keys of model and training"),
        ({"training.epochs": [1, 1]}, "different values"),
        ({"training.epochs": []}, "different values"),
        ({"training.epoch": [1]}, "did you mean.*epochs"),
        ({"model.dropout": [2.0]}, "model.dropout"),
        ({"model.shared": list(range(9)), "training.epochs": list(range(9))}, "81 combinations, at most 64"),
        ({"model.dropout.deep": [1]}, "no table of keys"),
    ],
)
def test_what_cannot_be_swept_is_refused(swept: dict[str, list[object]], message: str) -> None:
    """In words, before any face is read."""
    with pytest.raises(UsageError, match=message):
        candidates(make_spec(model__dropout=0.1, sweep=swept))


def test_other_commands_do_not_ignore_a_sweep() -> None:
    """`run` and `train` say that the table is not for them."""
    with pytest.raises(UsageError, match="fairaudit sweep"):
        pipeline.check_spec(make_spec(data={"dataset": "utkface"}, sweep=SWEPT), ())


def test_a_sweep_ranks_on_validation_and_goes_on(job: Run) -> None:
    """No test face is looked at; the second call trains nothing; with audit the first one alone is audited."""
    page, table = run_sweep(job)
    assert len(table) == 4
    assert table["score"].is_monotonic_decreasing
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert {path.stem.rpartition("-")[2] for path in (job.out / "predictions").iterdir()} == {"val"}
    assert not (job.out / "audits").exists()
    assert not (job.out / "cache").exists()
    text = page.read_text(encoding="utf-8")
    assert "No test face was looked at" in text
    assert "flattered by having been chosen" in text
    assert "forest.trees = 10" in text
    stored = pd.read_csv(job.out / "sweep.csv")
    assert stored["name"].tolist() == table["name"].tolist()
    said: list[str] = []
    _, again = run_sweep(replace(job, say=said.append), audit=True)
    assert again["name"].tolist() == table["name"].tolist()
    assert sum("skipped" in line for line in said) == 8
    assert [path.name for path in (job.out / "audits").iterdir()] == [table["name"].iloc[0]]
    assert "The audit of the first one" in page.read_text(encoding="utf-8")
    assert "looked at before" not in page.read_text(encoding="utf-8")
    assert verify(job.out).differences == ()
    other = replace(job, spec=forests().model_copy(update={"sweep": {"model.forest.trees": (2, 10)}}))  # type: ignore[attr-defined]
    for audit in (False, True):  # the test faces of this folder are no longer unseen
        text = run_sweep(other, audit=audit)[0].read_text(encoding="utf-8")
        assert "No test face was looked at" not in text
        assert f"holds audits of {table['name'].iloc[0]}." in text


def test_figures_and_intervals_of_the_ranking(tmp_path: Path) -> None:
    """Accuracy, worst subgroup and the distance to the first follow from the predictions; noise is not told apart."""
    rng = np.random.default_rng(0)
    truth = rng.choice(["x", "y"], 400)
    hair = np.where(np.arange(400) < 300, "short", "long")
    spec = make_spec(audit={"subgroups": ["hair"]}, sweep={"model.dropout": [0.1, 0.2, 0.3]})
    found = candidates(spec)
    tables, histories = {}, {}
    for candidate, accuracy in zip(found, (0.6, 0.9, 0.895), strict=True):
        wrong = np.arange(400) % 200 >= 200 * accuracy
        answer = np.where(wrong, np.where(truth == "x", "y", "x"), truth)
        tables[candidate.name] = read_predictions(
            pd.DataFrame({"image": np.arange(400).astype(str), "t_true": truth, "t_pred": answer, "hair": hair})
        )
        histories[candidate.name] = pd.DataFrame({"seconds": [1.5, 2.5]})
    table = rank(found, tables, histories, spec)
    assert table["model.dropout"].tolist() == [0.2, 0.3, 0.1]
    assert np.allclose(table["t_accuracy"], [0.9, 0.895, 0.6])
    assert table["apart"].tolist() == [False, False, True]
    assert np.allclose(table["behind"], [0, 0.005, 0.3])
    first = tables[found[1].name].frame
    right = (first["t_true"].astype(str) == first["t_pred"].astype(str)).to_numpy()
    by_hair = {name: right[hair == name].mean() for name in ("short", "long")}
    worst = min(by_hair, key=by_hair.get)  # type: ignore[arg-type]
    assert table["t_worst_subgroup"][0] == f"hair: {worst}"
    assert np.isclose(table["t_worst_accuracy"][0], by_hair[worst])
    assert table["t_worst_n"][0] == (hair == worst).sum()
    assert table["t_worst_low"][0] < by_hair[worst] < table["t_worst_high"][0]
    assert table["seconds"].tolist() == [4, 4, 4]
    judged = spec.model_copy(update={"training": spec.training.model_copy(update={"select": "worst-subgroup"})})
    assert np.isclose(rank(found, tables, histories, judged)["score"][0], by_hair[worst])


def ranked(right: list[np.ndarray], **columns: object) -> pd.DataFrame:
    """Return the ranking of combinations that are right where `right` says, on faces that are all labelled x."""
    spec = make_spec(audit={"min_group_size": 1}, sweep={"model.dropout": [i / 100 for i in range(len(right))]})
    found = candidates(spec)
    n = len(right[0])
    tables = {
        candidate.name: read_predictions(
            pd.DataFrame(
                {"image": np.arange(n).astype(str), "t_true": np.where(np.arange(n) % 2, "x", "y")}
                | {"t_pred": np.where((np.arange(n) % 2 == 1) == own, "x", "y"), **columns}
            )
        )
        for candidate, own in zip(found, right, strict=True)
    }
    return rank(found, tables, {c.name: pd.DataFrame({"seconds": [1.0]}) for c in found}, spec)


def test_what_exact_paired_tests_do_not_show_is_not_told_apart() -> None:
    """Two faces show nothing, nor do five of a thousand (p = 0.06); the limits are not without width."""
    few = ranked([np.ones(2, bool), np.zeros(2, bool)])
    assert not few["apart"].any()
    assert few["behind_low"][1] < 0 < few["behind_high"][1]
    assert not ranked([np.ones(1000, bool), np.arange(1000) >= 5])["apart"].any()
    assert ranked([np.ones(1000, bool), np.arange(1000) >= 8])["apart"].tolist() == [False, True]


def test_limits_hold_for_all_pairs_because_the_first_is_chosen() -> None:
    """Ten equal combinations would in 1 of 7 sweeps be told apart by limits for nine differences: 45 are looked at."""
    right = [np.ones(1000, bool), np.arange(1000) >= 10]  # exact p = 0.002
    assert ranked(right)["apart"].tolist() == [False, True]
    many = ranked([*right, *[np.ones(1000, bool)] * 8])
    assert not many["apart"].any()


def test_faces_of_a_person_are_one_unit_of_a_ranking() -> None:
    """Ten persons of a hundred faces each show no more than ten faces do."""
    person = np.repeat(np.arange(10), 100)
    right = [np.ones(1000, bool), person >= 4]
    assert ranked(right)["apart"].any()
    table = ranked(right, subject_id=person.astype(str))
    assert not table["apart"].any()
    single = ranked([np.ones(10, bool), np.arange(10) >= 4])
    assert np.allclose(table[["t_low", "t_high"]], single[["t_low", "t_high"]], atol=0.03)
