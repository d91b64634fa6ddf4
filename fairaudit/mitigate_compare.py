"""Methods × seeds compared head by head, and the page that says which helped whom."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import Predictions
from fairaudit.files import file_hash, value_hash
from fairaudit.methods import compare_methods
from fairaudit.mitigate_files import failures, fitted_heads, predictions_path, reads_of_test, validation_path
from fairaudit.mitigate_plan import BASELINE, Mitigating, Plan
from fairaudit.mitigation.methods import METHODS
from fairaudit.report.mitigate import write_mitigate_report
from fairaudit.report.render import write_methods_report
from fairaudit.results import MethodComparison

NOTHING = (
    "Nothing is compared: no method beside plain training (erm) was fitted with every seed, of those asked for; "
    "`fairaudit list mitigations` names them all."
)


def compared(work: Mitigating, plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return, per head, the methods that were fitted with every seed: the baseline first."""
    left_out = {(task, method) for task, method, _ in failures(work, plan)}
    return {
        task: tuple(name for name in plan.methods if name in methods and (task, name) not in left_out)
        for task, methods in plan.heads.items()
    }


def comparison_folder(out: Path, task: str) -> Path:
    """Return where the comparison of one head's methods lies; no two heads share a folder.

    A name that cannot be a folder's as it is gets its hash, so that "age group" and "age-group" are told apart.
    """
    safe = re.sub(r"[^\w.=-]+", "-", task)
    plain = safe == task and safe.strip(".")
    return out / "comparison" / (safe if plain else f"{safe}-{value_hash(task)[:8]}")


def compare_all(work: Mitigating, plan: Plan) -> None:
    """Compare every head's methods with the baseline over seeds × test faces, and write each head's tables and page."""
    out, spec = work.job.out, work.job.spec
    axes = tuple(dict.fromkeys([plan.by, *(spec.audit.subgroups or ())]))
    for task, methods in compared(work, plan).items():
        if len(methods) < 2:
            continue
        tables = {name: {str(s): predictions_path(out, name, s) for s in work.seeds} for name in methods}
        validation = {str(seed): validation_path(out, seed) for seed in work.seeds}
        costs = {name: _costs(work, task, name) for name in methods}
        inputs = {
            "predictions": {name: {s: file_hash(path) for s, path in own.items()} for name, own in tables.items()},
            "validation": {seed: file_hash(path) for seed, path in validation.items()},
            "audit": spec.audit.model_dump(mode="json"),
            "margin": work.settings.margin,
            "axes": axes,
            "costs": costs,
        }

        def work_on(task: str = task, tables: Any = tables, validation: Any = validation, costs: Any = costs) -> None:
            read = {name: {s: read_predictions(path) for s, path in own.items()} for name, own in tables.items()}
            found = compare_methods(
                read.pop(BASELINE),
                read,
                by=axes,
                tasks=[task],
                audit=spec.audit,
                margin=work.settings.margin,
                validation=pooled(validation),
                baseline_name=BASELINE,
                costs=costs,
                progress=work.job.progress,
            )
            folder = comparison_folder(out, task)
            found.save(folder)
            write_methods_report(found, folder, links={"All heads and methods": "../../index.html"})

        files = ("methods.json", "method_effects.csv", "index.html")
        folder = comparison_folder(out, task).relative_to(out).as_posix()
        work.job.stage(f"compare {task}", inputs, [f"{folder}/{file}" for file in files], work_on)


def _costs(work: Mitigating, task: str, method: str) -> dict[str, Any]:
    """Return what a method costs and needs: CPU seconds a seed (mean over seeds), and where it needs subgroups."""
    heads = [head for seed in work.seeds for head in fitted_heads(work.job.out, method, seed) if head.task == task]
    known = METHODS[method]
    return {
        "stage": known.stage,
        "seconds": float(np.mean([head.seconds for head in heads])),
        "groups_at": ", ".join(known.groups_at),
        "group_when_used": any(head.fitted.uses_group for head in heads),
    }


def pooled(tables: dict[str, Path]) -> Predictions:
    """Return the validation predictions of all seeds as one table: a face of several divisions counts once in each."""
    read = {seed: read_predictions(path) for seed, path in tables.items()}
    frames = [table.frame.assign(image=seed + "/" + table.frame["image"].astype(str)) for seed, table in read.items()]
    first = next(iter(read.values()))
    whole = pd.concat(frames, ignore_index=True)
    for column, kind in first.frame.dtypes.items():
        if isinstance(kind, pd.CategoricalDtype):
            values = dict.fromkeys(value for table in read.values() for value in table.frame[column].cat.categories)
            whole[column] = pd.Categorical(whole[column].astype(object), categories=list(values), ordered=kind.ordered)
    return replace(first, frame=whole)


def write_page(work: Mitigating, plan: Plan) -> tuple[Path, list[str]]:
    """Write index.html; return it, and the sentences of its first screen."""
    out = work.job.out
    own = compared(work, plan)
    found = {
        task: MethodComparison.load(comparison_folder(out, task)) for task, methods in own.items() if len(methods) > 1
    }
    reads = reads_of_test(out)
    flipped = ", each the mean of a face and its mirror image" if work.embedder.flip else ""
    facts = [
        f"Embeddings: {work.embedder.words}{flipped}.",
        f"Seeds: {len(work.seeds)}; between two of them differ {work.varies}. The test faces are the same.",
        f"The test faces were opened {'once' if len(reads) == 1 else f'{len(reads)} times'}, "
        + ("after all heads of all methods and seeds had been fitted and chosen." if len(reads) == 1 else
           f"last on {reads[-1]['when']}: what was added after the first time was asked for by somebody who could have "
           "seen the results."),
        *plan.notes,
    ]  # fmt: skip
    costs = {task: {name: _costs(work, task, name) for name in own[task]} for task in found}
    links = {task: f"{comparison_folder(out, task).relative_to(out).as_posix()}" for task in found}
    if not found:
        facts = [NOTHING, *facts]
    page, lines = write_mitigate_report(
        out,
        work.job.spec,
        plan.by,
        found,
        costs,
        links,
        facts=facts,
        refused=[*plan.refused, *failures(work, plan)],
    )
    return page, lines if found else [NOTHING]
