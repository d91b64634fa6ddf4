"""Look a name up in a literal dict, with a suggestion where it is missing."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from fairaudit.errors import UsageError

T = TypeVar("T")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string where nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Return `table[name]`.

    Raises UsageError naming what was given, the nearest known name and all allowed ones.
    """
    try:
        return table[name]
    except KeyError:
        allowed = ", ".join(table)
        raise UsageError(f"unknown {kind} {name!r}{suggestion(name, table)} (allowed: {allowed})") from None
