"""Dates, hashes and versions by which a report can be traced, checked and signed."""

from collections.abc import Mapping
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.data_sets import NOT_STATED
from fairaudit.report.legal import stated


def provenance_data(context: Context) -> dict[str, Any]:
    """Return what "Versions and hashes" prints: what made the figures, the command that checks them, who signs."""
    meta = context.result.meta
    return {
        "rows": hash_rows(meta),
        "packages": packages(meta),
        "files": [(str(name), str(value)) for name, value in meta.get("files", {}).items()],
        "command": verify_command(meta),
        "custom": bool((meta.get("settings") or {}).get("audit", {}).get("metrics")),
        "on_disk": bool(meta.get("shards")),
        "responsible": str(stated(meta).get("responsible") or NOT_STATED),
        "date": str(meta.get("created", ""))[:10],
    }


def hash_rows(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (what, hash or version) of weights, data, split, predictions, plan, code and environment."""
    hashes, data, model = (meta.get(part) or {} for part in ("hashes", "data", "model"))
    made = meta.get("environment") or {}
    known = {"predictions": "Predictions (SHA-256)", "checkpoint": "Weights (SHA-256)", "plan": "Frozen plan (SHA-256)"}
    weights = hashes.get("checkpoint") or model.get("sha256")
    rows = [
        ("Made", str(meta.get("created", ""))),
        ("Weights (SHA-256)", str(weights or "not known: only predictions were given")),
        ("Data (SHA-256 of the listing)", str(data.get("data_hash") or "not known")),
        ("Split (SHA-256)", str(data.get("split_hash") or "not known")),
        *((known.get(name, str(name)), str(value)) for name, value in hashes.items() if name != "checkpoint"),
        ("Code", f"fairaudit {meta.get('fairaudit', '')}"),
        ("Code: source (SHA-256)", str(made.get("source") or "not recorded")),
        ("Format of the tables", str(meta.get("format", ""))),
        ("Python", str(made.get("python") or (meta.get("versions") or {}).get("python", "not recorded"))),
        ("Platform", str(made.get("platform") or "not recorded")),
    ]
    return [(name, text) for name, text in rows if text]


def packages(meta: Mapping[str, Any]) -> str:
    """Return the versions of the packages that the figures come from, in a line."""
    found = (meta.get("environment") or {}).get("packages") or meta.get("versions") or {}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def verify_command(meta: Mapping[str, Any]) -> str:
    """Return the exact command that checks the audit in its own folder."""
    metrics = (meta.get("settings") or {}).get("audit", {}).get("metrics")
    return "fairaudit verify ." + (" --run-metrics" if metrics else "")
