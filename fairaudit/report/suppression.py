"""Which cells of a set of tables must be hidden so that none below k can be found, nor worked out from the others.

A cell is a set of labels, such as {race: White, gender: Male}; the empty set is everybody. A cell is the sum of any set
of cells that split it further, and all tables are published together, so a hidden cell can be recovered wherever these
equations have one solution for it. First comes what a reader could do by hand (one hidden cell in a line of a table),
then all equations at once: a hidden cell is safe where some solution of them differs in it.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

Cell = frozenset[tuple[str, str]]
EVERYBODY: Cell = frozenset()
Family = Sequence[Cell]  # the cells of one table: together they are everybody, each once
_Equation = tuple[Cell, tuple[Cell, ...]]  # a cell, and those that it is the sum of
_ZERO, _NO_SHARE = 1e-10, 1e-6


def hidden_cells(
    families: Iterable[Family], counts: Mapping[Cell, float], k: int, also: Iterable[Cell] = ()
) -> frozenset[Cell]:
    """Return the cells to hide: those with fewer than k faces, and those by which one of them could be worked out.

    families: the tables that are published; counts: faces of every cell, everybody's among them, which is never hidden;
    also: cells that are hidden for another reason. Where one cell of a line would be hidden, the smallest other one
    is, too, until the hidden ones hold k faces.
    """
    equations = _equations([*families], counts)
    hidden = {cell for cell, n in counts.items() if n < k and cell != EVERYBODY}
    hidden |= {cell for cell in also if cell in counts}
    while more := (_by_hand(equations, counts, hidden, k) or _by_all(equations, counts, hidden)):
        hidden |= more
    return frozenset(hidden)


def _equations(families: Sequence[Family], counts: Mapping[Cell, float]) -> list[_Equation]:
    """Return every cell as the sum of those cells of every table that split it: all that share its labels.

    A table may hold cells, such as that of faces with an unknown label, that belong to no one cell of a kind. There a
    cell is the sum of its parts where they add up to it: nobody of it is among those faces, as other tables may tell.
    """
    kinds: dict[frozenset[str], None] = {frozenset(name for name, _ in cell): None for cell in counts}
    found: dict[_Equation, None] = {}
    for family in families:
        inside = [(cell, {name for name, _ in cell}) for cell in family if cell in counts]
        for kind in kinds:
            whole = all(kind < names for _, names in inside)
            parts: dict[Cell, list[Cell]] = {}
            for cell, names in inside:
                if kind < names:
                    parts.setdefault(frozenset(pair for pair in cell if pair[0] in kind), []).append(cell)
            found |= {
                (total, tuple(cells)): None
                for total, cells in parts.items()
                if total in counts and (whole or math.isclose(counts[total], sum(counts[cell] for cell in cells)))
            }
    return list(found)


def _by_hand(equations: Sequence[_Equation], counts: Mapping[Cell, float], hidden: set[Cell], k: int) -> set[Cell]:
    """Return further cells to hide because of single lines: too few are hidden in one, or too few faces."""
    known = set(hidden)
    for total, parts in equations:
        while True:
            inside = [cell for cell in parts if cell in known]
            few = len(inside) < 2 or sum(counts[cell] for cell in inside) < k
            exposed = not inside if total in known else bool(inside) and few
            found = _smallest(parts, counts, known) or _smallest([total], counts, known) if exposed else set()
            if not found:
                break
            known |= found
    return known - hidden


def _by_all(equations: Sequence[_Equation], counts: Mapping[Cell, float], hidden: set[Cell]) -> set[Cell]:
    """Return further cells to hide because all equations together have one solution for a hidden one."""
    order = {cell: i for i, cell in enumerate(sorted(hidden, key=sorted))}
    open_ = [(total, parts) for total, parts in equations if not hidden.isdisjoint((total, *parts))]
    if not order or not open_:
        return set()
    matrix = np.zeros((len(open_), len(order)))
    for row, (total, parts) in enumerate(open_):
        for cell, sign in ((total, -1.0), *((part, 1.0) for part in parts)):
            if cell in order:
                matrix[row, order[cell]] = sign
    # what the equations leave open is the null space; a cell without a share in it has one solution
    values, directions = np.linalg.eigh(matrix.T @ matrix)
    free = np.abs(directions[:, values <= _ZERO * max(float(values[-1]), 1.0)]).max(axis=1, initial=0.0)
    known = set(hidden)
    for cell, i in order.items():
        if free[i] <= _NO_SHARE:
            around = [other for total, parts in open_ if cell in (total, *parts) for other in (*parts, total)]
            known |= _smallest(around, counts, known)
    return known - hidden


def _smallest(cells: Iterable[Cell], counts: Mapping[Cell, float], hidden: set[Cell]) -> set[Cell]:
    """Return the smallest of these cells that is still shown, finest first; empty where there is none."""
    shown = [cell for cell in cells if cell not in hidden and cell != EVERYBODY]
    return {min(shown, key=lambda cell: (-len(cell), counts[cell], sorted(cell)))} if shown else set()
