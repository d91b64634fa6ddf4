"""Tables and matrices as templates print them: texts ready, reasons collected into numbered notes below the table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fairaudit.report.context import Cell
from fairaudit.report.words import DASH, count, figure, is_number, metric_words, number


@dataclass(frozen=True)
class Entry:
    """One table cell: text (or a chart), the number of a note that explains it, and a CSS class."""

    text: str
    note: int = 0
    css: str = ""


@dataclass(frozen=True)
class Row:
    """One table row: its heading, where that links to, and its cells; `whole` marks the row of all faces together."""

    head: str
    entries: Sequence[Entry]
    href: str = ""
    small: bool = False
    whole: bool = False
    anchor: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with a caption; `notes` are printed below it, numbered from 1; `first` heads the first column.

    For the page's script: `draw` lets a reader draw another of its measures, `pick` is the number of a column (from 0,
    the heading) of which one value can be chosen.
    """

    caption: str
    first: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    draw: bool = False
    pick: int = 0


@dataclass
class Notes:
    """Collects the reasons of one table; the same reason gets the same number."""

    texts: list[str] = field(default_factory=list)

    def number(self, reason: str) -> int:
        """Return the number of `reason`, 0 for none."""
        if not reason:
            return 0
        if reason not in self.texts:
            self.texts.append(reason)
        return self.texts.index(reason) + 1


def entry(cell: Cell, metric: str, notes: Notes) -> Entry:
    """Return a figure with its interval; an undefined one is a dash whose reason is noted."""
    if not is_number(cell.value):
        return Entry(DASH, notes.number(cell.reason or "undefined; the audit gives no reason"), "num")
    kind = metric_words(metric).kind
    without = "" if is_number(cell.low) or kind == "count" else cell.reason
    return Entry(figure(cell.value, cell.low, cell.high, kind), notes.number(without), "num")


@dataclass(frozen=True)
class MatrixCell:
    """One cell of a printed matrix: main text, small text, strength 0…100 of its colour, CSS class."""

    text: str
    sub: str
    strength: int
    css: str


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """A K × K matrix, labels down and predictions across; `heads` pairs each label with its row's count."""

    caption: str
    classes: Sequence[str]
    heads: Sequence[tuple[str, str]]
    cells: Sequence[Sequence[MatrixCell]]


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Return each row of a confusion matrix divided by its sum; NaN in a row that holds no face."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def confusion_matrix(counts: np.ndarray, classes: Sequence[str], caption: str) -> Matrix:
    """Return row shares in percent over their counts."""
    shares = row_shares(counts)
    cells = [
        [
            MatrixCell(number(share), count(n), _strength(share), "hit" if i == j else "")
            for j, (share, n) in enumerate(zip(shares[i], counts[i], strict=True))
        ]
        for i in range(len(classes))
    ]
    totals = [count(total) for total in counts.sum(axis=1)]
    heads = list(zip(classes, totals, strict=True))
    if sum(counts.sum(axis=1) > 0) == 1:  # the subgroup is one class: the other rows would all be empty
        filled = int(counts.sum(axis=1).argmax())
        heads, cells = [heads[filled]], [cells[filled]]
    return Matrix(caption=caption, classes=classes, heads=heads, cells=cells)


def difference_matrix(counts: np.ndarray, rest: np.ndarray, classes: Sequence[str], caption: str) -> Matrix:
    """Return the row shares of `counts` minus those of `rest`, in points; colour is full at the largest difference."""
    values = row_shares(counts) - row_shares(rest)
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 1.0
    cells = [[_difference_cell(float(value), largest) for value in row] for row in values]
    totals = [count(total) for total in counts.sum(axis=1)]
    heads = list(zip(classes, totals, strict=True))
    return Matrix(caption=caption, classes=classes, heads=heads, cells=cells)


def _difference_cell(value: float, largest: float) -> MatrixCell:
    css = "above" if value > 0 else "below" if value < 0 else ""
    return MatrixCell(number(value, signed=True), "", _strength(abs(value) / (largest or 1.0)), css)


def _strength(share: float) -> int:
    return round(100 * float(share)) if is_number(share) else 0
