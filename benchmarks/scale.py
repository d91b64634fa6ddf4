"""Audits of tables larger than memory: wall time, CPU time and peak memory as rows, subgroups and draws grow.

    python benchmarks/scale.py rows [--rows 10000000 30000000 100000000] [--memory 1GB] [--folder runs/scale]
                                   [--probabilities]
    python benchmarks/scale.py groups
    python benchmarks/scale.py draws

`rows` writes a folder of Parquet files of one million faces each (three tasks, race × gender × age: 126 subgroups),
runs `fairaudit audit` on it as a process of its own, with every interval, null and the report, and checks that its cube
of race holds every face; then it removes the folder. With `--probabilities` the table has those of all 18 classes.
`groups` and `draws` audit 200,000 faces in memory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fairaudit.data.taxonomy import AGE_BINS, RACE7

SCHEMES: dict[str, tuple[str, ...]] = {"race": RACE7, "gender": ("Male", "Female"), "age": AGE_BINS}
PART = 1_000_000
AXES = ("race", "gender", "age", "race:gender", "race:gender:age")


def part(number: int, rows: int, probabilities: bool = False) -> pa.Table:
    """Return the faces of one file: labels, predictions that are right in nine of ten, and three attributes."""
    rng = np.random.default_rng([7, number])
    columns = {"image": pa.array([f"faces/{number:04d}/{i:07d}.jpg" for i in range(rows)])}
    for task, classes in SCHEMES.items():
        true = rng.integers(len(classes), size=rows)
        predicted = np.where(rng.random(rows) < 0.9, true, rng.integers(len(classes), size=rows))
        for name, codes in ((f"{task}_true", true), (f"{task}_pred", predicted), (task, true)):
            indices = pa.array(codes.astype(np.int8))
            columns[name] = pa.DictionaryArray.from_arrays(indices, pa.array(list(classes))).cast(pa.string())
        if probabilities:
            scores = rng.random((rows, len(classes)), dtype=np.float32)
            scores[np.arange(rows), predicted] += 1
            scores /= scores.sum(1, keepdims=True)
            columns |= {f"{task}_prob_{name}": pa.array(scores[:, k]) for k, name in enumerate(classes)}
    return pa.table(columns)


def measured(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return wall seconds, CPU seconds and peak memory in GB."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def rows(counts: list[int], memory: str, folder: Path, probabilities: bool) -> None:
    """Print a line a number of rows."""
    table, out = folder / "table", folder / "audit"
    table.mkdir(parents=True)
    written = 0
    try:
        for count in sorted(counts):
            while written < count:
                pq.write_table(part(written // PART, PART, probabilities), table / f"{written // PART:04d}.parquet")
                written += PART
            command = [sys.executable, "-m", "fairaudit", "audit", "--predictions", str(table), "--out", str(out)]
            command += ["--memory", memory, *(word for by in AXES for word in ("--by", by))]
            wall, cpu, peak = measured(command)
            told = json.loads((out / "audit.json").read_text(encoding="utf-8"))
            confusion = pd.read_csv(out / "confusion.csv")
            cells = confusion[(confusion["by"] == "race") & (confusion["task"] == "gender")]["count"].sum()
            if not told["n"] == cells == count:
                raise SystemExit(f"{count} faces were written, {cells} counted")
            size = sum(file.stat().st_size for file in table.iterdir()) / 1e9
            print(
                f"{count:,} faces ({size:.1f} GB): {wall:.0f} s wall, {cpu:.0f} s CPU, peak {peak:.2f} GB", flush=True
            )
    finally:
        shutil.rmtree(folder)


def audited(faces: int, groups: int, draws: int) -> float:
    """Return the CPU seconds of an audit of one task over so many subgroups, reading not counted."""
    import fairaudit as fa
    from fairaudit.spec import AuditSpec

    rng = np.random.default_rng(0)
    true = rng.integers(2, size=faces)
    frame = pd.DataFrame({"image": np.arange(faces), "gender_true": true})
    frame["gender_pred"] = np.where(rng.random(faces) < 0.9, true, 1 - true)
    size = int(np.ceil(np.sqrt(groups)))
    number = rng.integers(groups, size=faces)
    frame["one"], frame["two"] = (pd.Series(code).map("v{}".format) for code in divmod(number, size))
    table = fa.read_predictions(frame)
    began = time.process_time()
    fa.run_audit(table, by=["one:two"], audit=AuditSpec(draws=draws))
    return time.process_time() - began


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("rows", "groups", "draws"))
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000_000, 30_000_000, 100_000_000])
    parser.add_argument("--memory", default="1GB")
    parser.add_argument("--probabilities", action="store_true", help="score metrics, too (rows)")
    parser.add_argument("--folder", type=Path, default=Path("runs/scale"))
    given = parser.parse_args()
    if given.what == "rows":
        rows(given.rows, given.memory, given.folder, given.probabilities)
    for groups in (8, 32, 126, 504) if given.what == "groups" else ():
        print(f"{groups} subgroups: {audited(200_000, groups, 2000):.1f} s CPU", flush=True)
    for draws in (500, 2000, 8000) if given.what == "draws" else ():
        print(f"{draws} draws over 126 subgroups: {audited(200_000, 126, draws):.1f} s CPU", flush=True)


if __name__ == "__main__":
    main()
