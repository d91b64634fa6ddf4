"""Where a run of `fairaudit mitigate` keeps what it fitted and predicted, and how that is read again."""

import json
from pathlib import Path
from typing import Any

from fairaudit.mitigate_plan import BASELINE, Mitigating, Plan
from fairaudit.mitigation.refitted import RefittedHead, load_heads

READS = "test_reads.json"


def validation_path(out: Path, seed: int) -> Path:
    """Return where the baseline's predictions of a seed's validation faces lie."""
    return out / "predictions" / BASELINE / f"{seed}-val.parquet"


def fitted_heads(out: Path, method: str, seed: int) -> tuple[RefittedHead, ...]:
    """Read the heads that were fitted."""
    return load_heads(out / "mitigated" / method / str(seed))


def failures(work: Mitigating, plan: Plan) -> list[tuple[str, str, str]]:
    """Return (task, method, reason) of heads that turned out impossible to fit on some seed's faces."""
    found: dict[tuple[str, str], str] = {}
    for method in plan.methods:
        for seed in work.seeds:
            path = work.job.out / "mitigated" / method / f"{seed}.json"
            for task, reason in json.loads(path.read_text(encoding="utf-8"))["failed"].items():
                found.setdefault((task, method), f"{reason} (seed {seed})")
    return [(task, method, reason) for (task, method), reason in found.items()]


def predictions_path(out: Path, method: str, seed: int) -> Path:
    """Return where a method's predictions of the test faces lie."""
    return out / "predictions" / method / f"{seed}.parquet"


def reads_of_test(out: Path) -> list[dict[str, Any]]:
    """Return when, and with which methods, the test faces were opened; one entry unless methods were added later."""
    return list(json.loads((out / READS).read_text(encoding="utf-8"))) if (out / READS).exists() else []
