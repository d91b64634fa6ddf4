"""A stated population: the share of each subgroup where a model is to be used, from the spec or a CSV of cells."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from fairaudit.errors import UsageError
from fairaudit.subgroups import CROSS, parse

SHARE = "share"
_CLOSE = 1e-6


def check_shares(by: str, shares: Mapping[str, float]) -> None:
    """Raise UsageError unless the shares of the subgroups of the axis `by` are a distribution."""
    parse(by)
    for cell, share in shares.items():
        if not (math.isfinite(share) and share >= 0):
            raise UsageError(f"population by {by}: {cell} = {share:g}; a share is a number from 0 to 1")
    total = math.fsum(shares.values())
    if abs(total - 1) > _CLOSE:
        raise UsageError(f"population by {by}: the shares sum to {total:.6g}, not to 1; divide each by {total:.6g}")


def read_population(path: Path) -> dict[str, dict[str, float]]:
    """Read a CSV with one row a cell: a column for each attribute, and `share`. Returns {axis: {subgroup: share}}.

    Raises UsageError where the file is missing, has no `share`, or names a cell twice.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"population {path} cannot be read as CSV: {error}") from None
    attributes = [name for name in (rows[0] if rows else {}) if name != SHARE]
    if not attributes or SHARE not in rows[0] or any(None in row or None in row.values() for row in rows):
        raise UsageError(f"population {path}: give a column for each attribute and one named {SHARE!r}, a row a cell")
    shares: dict[str, float] = {}
    for number, row in enumerate(rows, start=2):
        cell = CROSS.join(row[name] for name in attributes)
        try:
            share = float(row[SHARE])
        except ValueError:
            raise UsageError(f"population {path}, line {number}: share {row[SHARE]!r} is no number") from None
        if cell in shares:
            raise UsageError(f"population {path}, line {number}: {cell} is given twice")
        shares[cell] = share
    return {":".join(attributes): shares}
