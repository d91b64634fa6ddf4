"""Policies and hypotheses as text: `difference(recall, race:gender, task=gender) <= 0.05`; the only parser of it."""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fairaudit import subgroups
from fairaudit.errors import UsageError
from fairaudit.registry import suggestion

# what is measured over the subgroups of an axis → the signs that a limit on it may have
MEASURES: dict[str, tuple[str, ...]] = {
    "difference": ("<=",),
    "ratio": (">=",),
    "minimum": (">=",),
    "maximum": ("<=",),
    "contrast": ("<=", ">="),
}
REST, REFERENCE, TARGET = "rest", "reference", "target"
FORM = "write it like difference(recall, race:gender) <= 0.05, with task=… and class=… inside the brackets if wanted"
_KEYS = ("task", "class", "subgroup", "against")
_WHOLE = re.compile(r"\s*(\w+)\s*\((.*)\)\s*(<=|>=|≤|≥)\s*(\S+)\s*", re.DOTALL)
_PART = re.compile(r'\s*(?:(\w+)\s*=\s*)?("(?:[^"\\]|\\.)*"|[^",=()\\]+?)\s*(,|$)', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One limit on one measure of one metric over the subgroups of one axis.

    measure: difference (largest − smallest), ratio (smallest / largest), minimum or maximum over the subgroups, or
    contrast (the value of `subgroup` minus that of `against`: "rest", "reference", or another subgroup). task None:
    every task that allows it; class_ None: it must hold in every class, so the worst one decides.
    """

    measure: str
    metric: str
    by: str
    sign: str
    limit: float
    task: str | None = None
    class_: str | None = None
    subgroup: str | None = None
    against: str | None = None

    def __str__(self) -> str:
        """Return the canonical text, which `parse_policy` reads back."""
        given = zip(_KEYS, (self.task, self.class_, self.subgroup, self.against), strict=True)
        parts = [_written(self.metric), _written(self.by), *(f"{k}={_written(v)}" for k, v in given if v is not None)]
        return f"{self.measure}({', '.join(parts)}) {self.sign} {self.limit!r}"


def parse_policy(text: str) -> Policy:
    """Read one policy.

    A name with a comma, bracket, quote or equals sign stands in double quotes, with JSON's escapes. Raises UsageError
    that says what is wrong, with the nearest known word.
    """
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        raise UsageError(f"policy {text!r}: {FORM}")
    measure, inside, sign, number = whole.groups()
    signs = MEASURES[_known(MEASURES, measure, "measure", text)]
    sign = {"≤": "<=", "≥": ">="}.get(sign, sign)
    if sign not in signs:
        raise UsageError(f"policy {text!r}: a limit on a {measure} is written with {signs[0]}; {sign} sets no limit")
    names, keys = _parts(inside, text)
    if len(names) != 2:
        raise UsageError(f"policy {text!r}: {measure}(…) needs a metric and an axis; {FORM}")
    if (measure == "contrast") != ("subgroup" in keys) or ("against" in keys and measure != "contrast"):
        raise UsageError(f"policy {text!r}: subgroup=… (and against=…) belong to contrast(…), which needs a subgroup")
    keys = {"against": REST, **keys} if measure == "contrast" else keys
    if measure == "contrast" and keys["subgroup"] == keys["against"]:
        raise UsageError(f"policy {text!r}: a subgroup cannot be compared with itself; name another one after against=")
    return Policy(
        measure=measure,
        metric=names[0],
        by=":".join(subgroups.parse(names[1])),
        sign=sign,
        limit=_limit(measure, number, text),
        task=keys.get("task"),
        class_=keys.get("class"),
        subgroup=keys.get("subgroup"),
        against=keys.get("against"),
    )


def parse_policies(texts: Sequence[str]) -> list[Policy]:
    """Read several policies. Raises UsageError where one is declared twice: a family counts each of its tests once."""
    found: list[Policy] = []
    for text in texts:
        policy = parse_policy(text)
        if policy in found:
            raise UsageError(f"policy {text!r} is declared twice; declare it once")
        found.append(policy)
    return found


def _parts(inside: str, text: str) -> tuple[list[str], dict[str, str]]:
    """Return the plain and the named arguments within the brackets."""
    names: list[str] = []
    keys: dict[str, str] = {}
    position, comma = 0, ","
    while comma:
        part = _PART.match(inside, position)
        if part is None:
            raise UsageError(f"policy {text!r}: cannot read {inside[position:].strip()!r}; {FORM}")
        key, value, comma = part.groups()
        value = _read(value, text)
        if key is None:
            if keys:
                raise UsageError(f"policy {text!r}: {value!r} stands after a named part; metric and axis come first")
            names.append(value)
        elif key in keys:
            raise UsageError(f"policy {text!r}: {key} is given twice")
        else:
            keys[_known(_KEYS, key, "key", text)] = value
        position = part.end()
    return names, keys


def _read(value: str, text: str) -> str:
    try:
        read = json.loads(value) if value.startswith('"') else value
    except json.JSONDecodeError as error:
        raise UsageError(f"policy {text!r}: {value} is no text in double quotes ({error.msg})") from None
    if not read.strip():
        raise UsageError(f"policy {text!r}: a name is empty")
    return str(read)


def _written(value: str) -> str:
    plain = _PART.fullmatch(value)
    bare = plain is not None and plain[1] is None and plain[2] == value and not plain[3]
    return value if bare and value.strip() == value else json.dumps(value, ensure_ascii=False)


def _known(known: Iterable[str], name: str, kind: str, text: str) -> str:
    if name not in known:
        allowed = ", ".join(known)
        raise UsageError(f"policy {text!r}: unknown {kind} {name!r}{suggestion(name, known)} (allowed: {allowed})")
    return name


def _limit(measure: str, number: str, text: str) -> float:
    try:
        limit = float(number)
    except ValueError:
        raise UsageError(f"policy {text!r}: {number!r} is no number; {FORM}") from None
    allowed = {"difference": limit > 0, "ratio": 0 < limit < 1}.get(measure, True)
    if not (math.isfinite(limit) and allowed):
        range_ = {"difference": "above 0", "ratio": "between 0 and 1"}.get(measure, "finite")
        raise UsageError(
            f"policy {text!r}: the limit of a {measure} must be {range_}; no data could ever show that {number} holds"
        )
    return limit
