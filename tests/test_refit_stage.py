"""Mitigations of `fairaudit run` that refit heads: on the baseline's embeddings, audited and compared like others."""

from pathlib import Path

import numpy as np
import pytest
from tiny_faces import make_faces, make_spec

from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.pipeline import Run, check_spec, run
from fairaudit.spec import Spec


def a_spec(method: str = "undersampling", **more: object) -> Spec:
    """Return a run with one mitigation of heads."""
    entry = {"method": method, "by": "race", "tasks": ["gender"], **more}
    return make_spec(
        tasks=["gender", "race"],
        data={"dataset": "manifest", "manifest": "manifest.csv"},
        split={"train": 0.6, "val": 0.2},
        training__epochs=1,
        training__flip_test=True,
        audit={"subgroups": ["race"], "min_group_size": 5, "draws": 100},
        mitigations=[entry],
        mitigate={"epochs": 3},
        attribution={"faces_per_head": 0},
    )


def test_a_run_refits_heads_and_compares_them(tmp_path: Path) -> None:
    """The refitted head answers, the network and the other head are the baseline's; a second call does nothing."""
    faces = make_faces(tmp_path / "faces", count=240)
    faces.frame[["image", "gender", "race", "hair"]].to_csv(tmp_path / "faces" / "manifest.csv", index=False)
    said: list[str] = []
    out = tmp_path / "out"
    job = Run(spec=a_spec(), root=tmp_path / "faces", out=out, say=said.append)
    run(job)
    kept, base = (load_checkpoint(out / "checkpoints" / name) for name in ("undersampling", "baseline"))
    assert [head.task for head in kept.refitted] == ["gender"] and not base.refitted
    assert kept.meta["mitigation"]["by"] == "race" and kept.meta["split_hash"] == base.meta["split_hash"]
    tables = [read_predictions(out / "predictions" / f"{name}.parquet") for name in ("undersampling", "baseline")]
    mitigated, before = (table.frame for table in tables)
    assert np.allclose(mitigated["race_prob_A"], before["race_prob_A"], atol=1e-6)
    assert not np.allclose(mitigated["gender_prob_Male"], before["gender_prob_Male"], atol=1e-3)
    assert (mitigated["gender_pred"] == mitigated["gender_true"]).mean() > 0.9
    assert (out / "audits" / "undersampling" / "audit.json").exists() and (out / "comparison" / "index.html").exists()
    said.clear()
    run(job)
    assert "refit undersampling: unchanged since the last run, skipped" in said


def test_what_cannot_be_refitted_is_refused_before_any_training() -> None:
    """An unknown method with the nearest known one; a forest, which has no embeddings; a cap that nothing reads."""
    with pytest.raises(UsageError, match="unknown mitigation 'undersamplin'; did you mean 'undersampling'"):
        check_spec(a_spec("undersamplin"), ())
    forest = a_spec().model_copy(update={"model": make_spec(model={"backbone": "pca-random-forest"}).model})
    with pytest.raises(UsageError, match="refits heads on embeddings, and pca-random-forest has none"):
        check_spec(forest, ())
    with pytest.raises(UsageError, match=r"mitigations.cap = 3 is not heeded by 'undersampling'.*bias-mimicking"):
        check_spec(a_spec(cap=3.0), ())
    check_spec(a_spec("group-dro", cap=3.0), ())
