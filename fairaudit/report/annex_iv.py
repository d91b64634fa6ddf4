"""Annex IV of the EU AI Act, point by point: where in this report, or that it is not covered here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fairaudit.report.context import Context
from fairaudit.report.legal import stated


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of Annex IV: its number, what it asks (in short), the sections that bear on it, and what is missing."""

    number: str
    asks: str
    sections: Sequence[str] = ()
    missing: str = ""


POINTS: tuple[Point, ...] = (
    Point(
        number="1 (a)",
        asks="intended purpose, provider, version",
        sections=("scope", "audited"),
        missing="what is not stated; earlier versions of the system",
    ),
    Point(number="1 (b)", asks="interaction with other hardware, software and AI systems"),
    Point(
        number="1 (c)",
        asks="versions of software, and what updates need",
        sections=("hashes",),
        missing="versions in the deployed system",
    ),
    Point(number="1 (d)", asks="forms in which it is placed on the market"),
    Point(number="1 (e)–(h)", asks="hardware, product pictures, user interface, instructions for use"),
    Point(
        number="2 (a)",
        asks="steps of development, pre-trained systems and tools of others",
        sections=("audited", "training"),
        missing="what the model’s own record does not say; who decided what",
    ),
    Point(
        number="2 (b)",
        asks="design: general logic, key choices, what is optimised, trade-offs",
        sections=("audited", "rationale"),
        missing="the reasons for the design",
    ),
    Point(
        number="2 (c)",
        asks="architecture and computing resources",
        sections=("audited", "training"),
        missing="the system around the model",
    ),
    Point(
        number="2 (d)",
        asks="data: provenance, scope, how selected, labelled and cleaned",
        sections=("datasheet", "composition"),
        missing="consent and lawfulness of the collection; training data beyond counts and hashes",
    ),
    Point(number="2 (e)", asks="human oversight (Art. 14)"),
    Point(number="2 (f)", asks="changes determined beforehand"),
    Point(
        number="2 (g)",
        asks="validation and testing: data, metrics of accuracy and robustness, potentially discriminatory impacts, "
        "test reports dated and signed",
        sections=("findings", "heads", "policies", "criteria", "calibration", "rationale", "hashes"),
        missing="the signature, and other tests of the system",
    ),
    Point(number="2 (h)", asks="cybersecurity"),
    Point(
        number="3",
        asks="capabilities and limits, accuracy for specific groups of persons, foreseeable risks to fundamental "
        "rights and of discrimination, input data",
        sections=("verdict", "heads", "labels", "method", "warnings"),
        missing="unintended outcomes in use, oversight, specification of the input",
    ),
    Point(
        number="4",
        asks="why the performance metrics are appropriate",
        sections=("rationale", "method"),
        missing="why they are for this very use",
    ),
    Point(
        number="5",
        asks="risk management (Art. 9)",
        sections=("policies",),
        missing="everything but declared limits and their verdicts",
    ),
    Point(number="6", asks="changes through the life cycle", missing="fairaudit diff compares two audits"),
    Point(number="7", asks="harmonised standards applied"),
    Point(number="8", asks="EU declaration of conformity (Art. 47)"),
    Point(number="9", asks="monitoring after placing on the market (Art. 72)"),
)


def annex_data(context: Context) -> dict[str, Any]:
    """Return what "Annex IV" prints; which of the named sections the page has, its template looks up."""
    meta = context.result.meta
    return {
        "points": POINTS,
        "date": str(meta.get("created", ""))[:10],
        "responsible": str(stated(meta).get("responsible") or ""),
    }
