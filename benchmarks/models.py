"""Every model of `audits/` on a subset of UTKFace and of FairFace: accuracy per head, worst subgroup, time.

    TORCH_HOME=DIR python benchmarks/models.py --faces DIR [--model NAME] [--set NAME] [--minutes 10] [--again]

DIR holds the folders `utkface` and `fairface`. Each row is one process: 3,000 faces of the set are drawn with the
spec's seed and split 60 : 10 : 30 by race, gender and age; model and training are those of the spec but for what the
column `changes` says; the test faces are audited. Rows are appended to models.csv as they end, so an interrupted call
goes on with the next; a row that was not run, or not to its end, stands there with the reason.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fairaudit import __version__
from fairaudit.files import write_text
from fairaudit.spec import Spec, load_spec

RESULTS = Path(__file__).with_name("models.csv")
AUDITS = Path(__file__).parents[1] / "audits"
FACES = 3000
KEYS = ["model", "set"]
COLUMNS = [
    *KEYS, "status", "head", "accuracy", "low", "high", "n", "worst_axis", "worst_subgroup", "worst_accuracy",
    "worst_low", "worst_high", "worst_n", "training_faces", "parameters", "training_seconds", "training_cpu_seconds",
    "images_per_second", "images_per_cpu_second", "changes", "seed", "fairaudit", "torch", "machine", "date",
]  # fmt: skip
SOURCES: dict[str, dict[str, Any]] = {
    "utkface": {"dataset": "utkface", "folder": "utkface"},
    "fairface": {"dataset": "fairface", "folder": "fairface"},
    "merged": {
        "dataset": "merged",
        "target_schemes": {"gender": "gender2", "race": "race7", "age": "age9"},
        "sources": [{"dataset": "utkface", "folder": "utkface"}, {"dataset": "fairface", "folder": "fairface"}],
    },
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One spec of `audits/`, the sets it is run on, and the keys that a subset on a CPU needs changed."""

    spec: str
    sets: tuple[str, ...] = ("utkface", "fairface")
    changes: Mapping[str, Any] = field(default_factory=dict)


MODELS = (
    Model(spec="utkface-forest"),
    Model(spec="utkface-xgboost"),
    Model(spec="utkface-mobilenet"),
    Model(spec="utkface-balanced"),
    Model(spec="utkface", changes={"training.zoom_test": []}),  # as the others: no face is looked at in other sizes
    Model(spec="utkface-fairface-merged", sets=("merged",)),
    Model(spec="utkface-cnn"),
    Model(spec="utkface-cnn-grey"),
    Model(spec="utkface-ordinal", sets=("utkface",)),
    Model(spec="utkface-efficientnet", changes={"training.epochs": 6}),
    Model(spec="utkface-resnet50", changes={"training.epochs": 16, "model.image_size": 96}),
    Model(spec="utkface-vggface2"),
)


def main() -> None:
    """Run the rows that models.csv lacks, one process each, and list what was not run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=Path, required=True, help="folder that holds utkface/ and fairface/")
    parser.add_argument("--model", help="only this spec of audits/, by its name")
    parser.add_argument("--set", help="only this set")
    parser.add_argument("--minutes", type=float, default=10, help="most minutes of all cores that a row may take")
    parser.add_argument("--again", action="store_true", help="run rows again that were run before")
    parser.add_argument("--row", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.row:
        model = next(model for model in MODELS if model.spec == given.model)
        given.row.write_text(json.dumps(measure(model, given.set, given.faces)))
        return
    for model in MODELS:
        for name in model.sets:
            if given.model in (None, model.spec) and given.set in (None, name):
                run_row(model, name, given.faces, given.minutes, again=given.again)
    print(to_markdown(results()))


def results() -> pd.DataFrame:
    """Return the table as it stands, with a line for every row that was not run yet."""
    table = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=COLUMNS)
    known = set(zip(table["model"], table["set"], strict=True))
    missing = [(model.spec, name) for model in MODELS for name in model.sets if (model.spec, name) not in known]
    lines = pd.DataFrame([{"model": model, "set": name, "status": "not run"} for model, name in missing])
    return pd.concat([table, lines], ignore_index=True)[COLUMNS] if missing else table


def run_row(model: Model, name: str, faces: Path, minutes: float, *, again: bool) -> None:
    """Measure one row in a process of its own and write the table at once."""
    table = results()
    own = (table["model"] == model.spec) & (table["set"] == name)
    if not again and (table.loc[own, "status"] == "subset").any():
        return
    if not (AUDITS / f"{model.spec}.toml").exists():
        print(f"{model.spec} × {name}: not run, there is no audits/{model.spec}.toml")
        return
    lines = _in_a_process(model, name, faces, minutes)
    fresh = pd.DataFrame(lines).reindex(columns=COLUMNS)
    order = {(m.spec, s): place for place, (m, s) in enumerate((m, s) for m in MODELS for s in m.sets)}
    joined = pd.concat([results().loc[lambda t: ~((t["model"] == model.spec) & (t["set"] == name))], fresh])
    places = pd.Series([order.get(key, len(order)) for key in zip(joined["model"], joined["set"], strict=True)])
    joined = joined.iloc[places.argsort(kind="stable")]
    rounded = joined.map(lambda value: float(f"{value:.5g}") if isinstance(value, float) else value)
    write_text(RESULTS, rounded.to_csv(index=False))
    print(f"{model.spec} × {name}: {lines[0]['status']}", flush=True)


def _in_a_process(model: Model, name: str, faces: Path, minutes: float) -> list[dict[str, Any]]:
    limit = int(minutes * 60 * (os.cpu_count() or 1))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "row.json"
        command = [sys.executable, __file__, "--faces", str(faces), "--model", model.spec, "--set", name]
        done = subprocess.run(
            [*command, "--row", str(out)],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5)),
        )
        if done.returncode == 0:
            lines: list[dict[str, Any]] = json.loads(out.read_text())
            return lines
    last = (done.stderr.strip().splitlines() or [""])[-1]
    stopped = done.returncode < 0
    last = last.removeprefix("fairaudit.errors.UsageError: ")
    last = last.split(" was not found in")[0] + (" was not found" if " was not found in" in last else "")
    status = f"not run: stopped at {minutes:g} minutes of all cores" if stopped else f"not run: {last[:200]}"
    return [{"model": model.spec, "set": name, "status": status, **_circumstances()}]


def measure(model: Model, name: str, faces: Path) -> list[dict[str, Any]]:
    """Train on the subset, audit its test faces, and return one line a head."""
    from fairaudit.audit import run_audit
    from fairaudit.data.predictions import read_predictions
    from fairaudit.inputs import load_and_split
    from fairaudit.models.inference import predict
    from fairaudit.models.training import train
    from fairaudit.progress import silent

    spec = subset_spec(model, name)
    table = load_and_split(faces, spec, silent)
    with tempfile.TemporaryDirectory() as folder:
        began, began_cpu = time.perf_counter(), time.process_time()
        checkpoint = train(table, spec, Path(folder) / "checkpoint", weights_folders=(AUDITS,))
        trained = time.perf_counter() - began, time.process_time() - began_cpu
        test = table.part("test")
        began, began_cpu = time.perf_counter(), time.process_time()
        path = predict(checkpoint, test, Path(folder) / "predictions.parquet")
        predicted = time.perf_counter() - began, time.process_time() - began_cpu
        predictions = read_predictions(path)
    axes = ["race", "gender", "age"]
    audit = run_audit(predictions, by=axes, audit=spec.audit.model_copy(update={"draws": 200, "policies": ()}))
    common = {
        "model": model.spec,
        "set": name,
        "status": "subset",
        "training_faces": checkpoint.meta["data"]["counts"]["train"]["faces"],
        "parameters": sum(value.numel() for value in checkpoint.model.state_dict().values()),
        "training_seconds": trained[0],
        "training_cpu_seconds": trained[1],
        "images_per_second": len(test) / predicted[0],
        "images_per_cpu_second": len(test) / predicted[1],
        "changes": "; ".join(f"{key} = {value}" for key, value in model.changes.items()),
        "seed": spec.seed,
        **_circumstances(),
    }
    return [{**common, **head_figures(audit.metrics, task)} for task in predictions.tasks]


def subset_spec(model: Model, name: str) -> Spec:
    """Return the spec of one row: its own model and training on 3,000 faces of another set."""
    spec = load_spec(AUDITS / f"{model.spec}.toml")
    raw = spec.model_dump(mode="json", exclude_unset=True)
    balance = raw["data"].get("balance")
    raw["data"] = {**SOURCES[name], "duplicates": "test-only", "limit": FACES}
    if balance:
        raw["data"]["balance"] = balance
    raw["split"] = {"train": 0.6, "val": 0.1, "stratify": ["race", "gender", "age"]}
    raw["mitigations"] = []
    raw.pop("audit", None)
    for key, value in model.changes.items():
        part, _, last = key.partition(".")
        raw[part][last] = value
    return Spec.model_validate(raw)


def head_figures(metrics: pd.DataFrame, task: str) -> dict[str, Any]:
    """Return a head's accuracy over all test faces and in the subgroup (of 30 or more) where it is lowest."""
    own = metrics[(metrics["task"] == task) & (metrics["metric"] == "accuracy") & metrics["value"].notna()]
    whole = own[own["by"] == "overall"].iloc[0]
    groups = own[(own["by"] != "overall") & ~own["small"].astype(bool) & (own["subgroup"] != "unknown")]
    worst = groups.loc[groups["value"].idxmin()] if len(groups) else None
    found = {"head": task, "accuracy": whole["value"], "low": whole["low"], "high": whole["high"], "n": whole["n"]}
    if worst is None:
        return {**found, "n": int(found["n"])}
    return {
        **found,
        "n": int(found["n"]),
        "worst_axis": worst["by"],
        "worst_subgroup": worst["subgroup"],
        "worst_accuracy": worst["value"],
        "worst_low": worst["low"],
        "worst_high": worst["high"],
        "worst_n": int(worst["n"]),
    }


def _circumstances() -> dict[str, Any]:
    return {
        "fairaudit": __version__,
        "torch": importlib.metadata.version("torch"),
        "machine": f"{os.cpu_count()} cores {_processor()}, shared",
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def to_markdown(table: pd.DataFrame) -> str:
    """Return the table for benchmarks/README.md: one line a model and set, shares in percent with 95 % intervals."""
    lines = [
        "| spec × set | training faces | gender | race | age | lowest: gender | race | age | training wall / CPU s | "
        "img/s wall / CPU |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (model, name), rows in table.groupby(KEYS, sort=False):
        first, heads = rows.iloc[0], rows.set_index("head").to_dict("index")
        if first["status"] != "subset":
            lines.append(f"| {model} × {name} | {first['status']} " + "| " * 8 + "|")
            continue
        shares = [_share(heads.get(task, {}), "") for task in ("gender", "race", "age")]
        worst = [_share(heads.get(task, {}), "worst_") for task in ("gender", "race", "age")]
        clock = f"{first['training_seconds']:.0f} / {first['training_cpu_seconds']:.0f}"
        speed = f"{first['images_per_second']:.0f} / {first['images_per_cpu_second']:.0f}"
        cells = [f"{model} × {name}", f"{first['training_faces']:,.0f}", *shares, *worst, clock, speed]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(head: Mapping[str, Any], prefix: str) -> str:
    value = head.get(f"{prefix}accuracy")
    if value is None or pd.isna(value):
        return "–"
    text = f"{value:.1%} ({head[f'{prefix}low']:.1%}–{head[f'{prefix}high']:.1%}; n {head[f'{prefix}n']:.0f})"
    return f"{head['worst_subgroup']} {text}" if prefix else text


if __name__ == "__main__":
    main()
