"""A report over 126 subgroups (race × gender × age) and their margins, three heads: time to write, size, time to open.

    python benchmarks/report.py [--faces 10954] [--audit FOLDER] [--few] [--openings 7]

Faces are made up unless an audit is given; `--few` leaves out the crossings of two attributes (126 + 18 subgroups). The
page is opened in Debian's chromium several times, each in a fresh window; "first paint" is when something is seen,
"loaded" when all of the file is, by the page's own clock; other work makes both longer, so the load average is printed,
and "work": the seconds that the page's main thread computed until then, which a busy machine changes little.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fairaudit.audit import run_audit
from fairaudit.report.render import write_report
from fairaudit.results import AuditResult
from fairaudit.spec import AuditSpec

CLASSES = {
    "race": ("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"),
    "gender": ("Male", "Female"),
    "age": ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"),
}
AXES = ["race", "gender", "age", "race:gender", "race:age", "gender:age", "race:gender:age"]


def made_up(faces: int, axes: Sequence[str] = AXES, seed: int = 0) -> AuditResult:
    """Audit made-up predictions in which one face of six is wrong, whoever it is of."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"image": [f"{i}.jpg" for i in range(faces)]})
    for task, names in CLASSES.items():
        code = rng.integers(0, len(names), faces)
        wrong = (rng.random(faces) < 1 / 6) * rng.integers(1, len(names), faces)
        frame[task] = frame[f"{task}_true"] = np.array(names)[code]
        frame[f"{task}_pred"] = np.array(names)[(code + wrong) % len(names)]
    return run_audit(frame, by=axes, audit=AuditSpec(draws=200), name="benchmark")


def opened(page: Path, times: int) -> list[dict[str, float]]:
    """Return the seconds to first paint and to load, and of work, of each opening, in a fresh window each."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium")
    if program is None:
        sys.exit("the load is measured in chromium, which is not installed (apt-get install chromium)")
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-background-networking"]
        )
        for _ in range(times):
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            tab = context.new_page()
            meter = context.new_cdp_session(tab)
            meter.send("Performance.enable", {"timeDomain": "threadTicks"})
            tab.goto(page.as_uri(), timeout=120_000)
            measured = {one["name"]: one["value"] for one in meter.send("Performance.getMetrics")["metrics"]}
            paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
            load = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
            found.append({"paint": paint / 1000, "load": load / 1000, "work": measured["TaskDuration"]})
            context.close()
        browser.close()
    return found


def main() -> None:
    """Write both forms of the report, and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=10954)
    parser.add_argument("--audit", type=Path, help="folder of an audit that is shown instead")
    parser.add_argument("--few", action="store_true", help="no crossings of two attributes")
    parser.add_argument("--openings", type=int, default=7)
    given = parser.parse_args()
    axes = [by for by in AXES if by.count(":") != 1] if given.few else AXES
    result = AuditResult.load(given.audit) if given.audit else made_up(given.faces, axes)
    groups = sum(len(names) for names in result.meta["subgroups"].values())
    print(f"{groups} subgroups of {len(result.meta['subgroups'])} axes, {len(result.meta['tasks'])} heads")
    with tempfile.TemporaryDirectory() as folder:
        for words, single in (("a page a subgroup", False), ("one file", True)):
            began, used = time.perf_counter(), time.process_time()
            index = write_report(result, Path(folder) / words, single=single)
            wall, cpu = time.perf_counter() - began, time.process_time() - used
            size = sum(path.stat().st_size for path in index.parent.rglob("*.html"))
            print(f"{words}: written in {wall:.1f} s ({cpu:.1f} s of CPU), {size / 1e6:.2f} MB; "
                  f"index.html {index.stat().st_size / 1e6:.2f} MB")  # fmt: skip
            before, found = os.getloadavg()[0], opened(index, given.openings)
            load = f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after"
            for what in ("paint", "load", "work"):
                each = sorted(one[what] for one in found)
                middle, spread = statistics.median(each), f"{each[0]:.2f} to {each[-1]:.2f}"
                print(f"  {what}: median {middle:.2f} s of {len(each)} ({spread}); {load}")


if __name__ == "__main__":
    main()
