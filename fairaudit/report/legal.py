"""The law that a report on such heads must name, and whether anybody acknowledged it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairaudit.report.words import listing
from fairaudit.subgroups import parse

# heads whose inference Art. 5(1)(g) names; other protected attributes fall under Annex III, point 1(b)
PROHIBITED = ("race", "ethnicity")
PROTECTED = (*PROHIBITED, "gender", "sex", "age", "disability", "religion")


@dataclass(frozen=True, kw_only=True)
class LegalNotice:
    """What is printed of heads that infer race: which heads, the notice, and who acknowledged it.

    acknowledged: "NAME, purpose", "" where nobody did; standing: a sentence that says which of the two.
    """

    heads: Sequence[str]
    paragraphs: Sequence[str]
    acknowledged: str
    standing: str


def heads_of(tasks: Iterable[str], meta: Mapping[str, Any]) -> list[str]:
    """Return every head that was audited, those too that a report leaves out wholly (`hiding.hide_below`)."""
    return [*tasks, *(meta.get("hidden") or {}).get("heads", ())]


def race_heads(tasks: Sequence[str]) -> list[str]:
    """Return the heads that infer race."""
    return [task for task in tasks if parse(task)[0].lower() in PROHIBITED]


def legal_notice(tasks: Sequence[str], meta: Mapping[str, Any]) -> LegalNotice | None:
    """Return the notice on the heads that infer race, None where there is none."""
    heads = race_heads(heads_of(tasks, meta))
    if not heads:
        return None
    named = "head " + heads[0] if len(heads) == 1 else "heads " + listing(heads)
    infers = "infers" if len(heads) == 1 else "infer"
    paragraphs = [
        f"The {named} {infers} a race label from a face. In the European Union, Art. 5(1)(g) of Regulation (EU) "
        "2024/1689 (the AI Act) prohibits, since 2 February 2025, placing on the market, putting into service for this "
        "purpose or using biometric categorisation systems that categorise natural persons one by one, by their "
        "biometric data, to deduce or infer their race. Labelling or filtering of lawfully acquired biometric data "
        "sets is not covered by the prohibition.",
        HIGH_RISK,
        "This report is for auditing such labels, not for using them on people; publishing it makes no use lawful. It "
        "is no legal advice.",
    ]
    acknowledged = str(stated(meta).get("acknowledge_race_head", ""))
    return LegalNotice(heads=heads, paragraphs=paragraphs, acknowledged=acknowledged, standing=_standing(acknowledged))


HIGH_RISK = (
    "Where a categorisation by sensitive or protected attributes is permitted at all, Annex III, point 1(b), counts "
    "it as high-risk: risk management, data governance, the technical documentation of Annex IV and human oversight "
    "are then required of the provider."
)


def stated(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the spec's table [report] stated when the audit was made; empty in an older audit."""
    found = meta.get("report")
    return found if isinstance(found, Mapping) else {}


def protected_heads(tasks: Sequence[str]) -> list[str]:
    """Return the heads that infer a protected attribute, race among them."""
    return [task for task in tasks if parse(task)[0].lower() in PROTECTED]


def _standing(acknowledged: str) -> str:
    if not acknowledged:
        return (
            "Nobody has acknowledged this notice for this report. --acknowledge-race-head “NAME, purpose”, or "
            "acknowledge_race_head in the spec’s table [report], records who did and what the head is for."
        )
    who, _, purpose = acknowledged.partition(", ")
    return f"Acknowledged by {who}, who states as the purpose of the head: {purpose.rstrip('.')}."
