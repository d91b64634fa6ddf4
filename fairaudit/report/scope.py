"""What the model is for and who answers for it, as the spec's table [report] states it; what is not stated is said."""

from collections.abc import Mapping, Sequence
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.data_sets import NOT_STATED
from fairaudit.report.legal import HIGH_RISK, heads_of, protected_heads, race_heads, stated
from fairaudit.report.words import listing

ASKED = (
    ("Intended use", "intended_use"),
    ("Not meant for", "out_of_scope"),
    ("Provider of the model", "provider"),
    ("Responsible for this report", "responsible"),
    ("Contact", "contact"),
    ("Licence of the model", "licence"),
)
SPEAKS_OF = (
    "This report speaks of agreement with labels, on the faces that were audited. It does not say that a use is "
    "lawful, wanted or safe, nor how the model does on other faces."
)


def scope_data(context: Context) -> dict[str, Any]:
    """Return what "Scope and intended use" prints."""
    meta = context.result.meta
    tasks = heads_of(context.tasks, meta)
    race = race_heads(tasks)
    protected = [task for task in protected_heads(tasks) if task not in race]
    law = f"Heads that infer a protected attribute{' besides race' if race else ''}: {listing(protected)}. "
    law += "What the legal notice says of Annex III bears on them, too." if race else HIGH_RISK
    return {
        "facts": scope_facts(meta),
        "speaks_of": SPEAKS_OF,
        "law": law if protected else "",
        "missing": missing(meta),
    }


def scope_facts(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is asked of every report, and what was stated."""
    told = stated(meta)
    return [(name, _text(told.get(key)) or NOT_STATED) for name, key in ASKED]


def missing(meta: Mapping[str, Any]) -> bool:
    """Tell whether anything that is asked was not stated."""
    return any(text == NOT_STATED for _, text in scope_facts(meta))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    return "; ".join(str(part).strip() for part in value) if isinstance(value, Sequence) else ""
