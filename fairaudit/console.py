"""What a person sees in the terminal while work goes on: progress bars, or plain lines where there is no terminal."""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from fairaudit.data.taxonomy import SCHEMES
from fairaudit.resources import resource_dir

if TYPE_CHECKING:
    from fairaudit.selftest import Outcome

console = Console(stderr=True, highlight=False, soft_wrap=True)
_QUIET_SECONDS = 2.0  # stages shorter than this need no line of their own


class Bars:
    """A `Progress` (fairaudit.progress) that draws one bar a stage; used as a context manager.

    Without a terminal (a log file, CI) it writes a line every thirty seconds and one when a long stage ends.
    """

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bars = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}
        self._said: dict[str, float] = {}

    def __enter__(self) -> "Bars":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` steps of `stage` are done, or print a remark."""
        if not total:
            say(f"  {stage}: {note}")
            return
        now = time.monotonic()
        self._started.setdefault(stage, now)
        if self._bars:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=total, note=note)
            self._bars.update(self._tasks[stage], completed=done, total=total, note=note)
        elif self._due(stage, now, done >= total):
            self._said[stage] = now
            print(f"  {stage}: {done}/{total} {note}".rstrip(), file=sys.stderr, flush=True)
        if done >= total:
            self._end(stage)

    def _due(self, stage: str, now: float, ended: bool) -> bool:
        if ended:
            return now - self._started[stage] > _QUIET_SECONDS
        return now - self._said.get(stage, self._started[stage]) > 30

    def _end(self, stage: str) -> None:
        if self._bars and stage in self._tasks:
            self._bars.remove_task(self._tasks.pop(stage))
        self._started.pop(stage, None)
        self._said.pop(stage, None)


def say(text: str) -> None:
    """Print one line of what was done or found, to standard error."""
    console.print(text, markup=False)


def check_table(outcomes: "Sequence[Outcome]") -> None:
    """Print what the self-test expected (third column) and found (fourth), one block a case, to standard output."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    for outcome in outcomes:
        out.print(Text(f"{outcome.name}: {outcome.tests}", style="bold"))
        table = Table.grid(padding=(0, 2))
        for width, name in ((5, ""), (50, "what"), (35, "expected"), (35, "found")):
            table.add_column(name, width=width)
        for check in outcome.checks:
            mark = Text("ok", style="green") if check.ok else Text("WRONG", style="bold red")
            found = Text(check.found if check.ok else f"found {check.found}")
            table.add_row(mark, Text(check.what), Text(check.expected), found)
        out.print(table)


def listings() -> dict[str, Callable[[], list[str]]]:
    """Return, for each kind of thing that a spec may name, the function that lists its names."""
    return {
        "audits": lambda: sorted(path.stem for path in resource_dir("audits").glob("*.toml")),
        "datasets": lambda: _names("fairaudit.data.readers", "READERS"),
        "backbones": lambda: [
            *_names("fairaudit.models.backbones", "BACKBONES"),
            *_names("fairaudit.models.forest", "FORESTS"),
            "any torchvision classifier by name",
        ],
        "presets": lambda: sorted(path.stem for path in resource_dir("presets").glob("*.toml")),
        "metrics": lambda: _names("fairaudit.metrics.rates", "METRICS"),
        "mitigations": _mitigations,
        "attributions": lambda: _names("fairaudit.attribution.methods", "ATTRIBUTIONS"),
        "perturbations": lambda: _names("fairaudit.data.perturbations", "PERTURBATIONS"),
        "schemes": lambda: [f"{s.name} ({', '.join(s.classes)})" for s in SCHEMES.values()],
        "schemas": lambda: _names("fairaudit.schemas", "SCHEMAS"),
        "sections": lambda: _names("fairaudit.report.sections", "SECTIONS"),
    }


def _mitigations() -> list[str]:
    """Return every mitigation with what it does: trains the network again on weighted faces, or refits heads."""
    whole = _names("fairaudit.mitigation", "MITIGATIONS")
    methods = importlib.import_module("fairaudit.mitigation.methods").METHODS
    said = []
    for name, method in methods.items():
        needs = f"needs subgroups at {', '.join(method.groups_at)}" if method.groups_at else "needs no subgroups"
        two = "; two classes only" if method.binary_only else ""
        again = "; in `run` the whole network is trained again" if name in whole else ""
        when = "plain training" if method.stage == "none" else f"{method.stage}-processing"
        said.append(f"{name}: {method.summary} ({when}; {needs}{two}{again})")
    return said + [f"{name}: the whole network trained again (run)" for name in whole if name not in methods]


def _names(module: str, table: str) -> list[str]:
    return list(getattr(importlib.import_module(module), table))
