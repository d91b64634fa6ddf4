"""The confusion cube of 10 million faces by 126 subgroups against one read of the same arrays, and against duckdb.

python benchmarks/cube.py [--rows 10000000]
"""

import argparse

import duckdb
import numpy as np
from timing import alternate

from fairaudit.metrics.cube import confusion_cube

SHAPE = (126, 2, 2)


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    rows = parser.parse_args().rows // 8 * 8
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, size, rows).astype(np.int8) for size in SHAPE]
    connection = duckdb.connect(config={"threads": 1})
    connection.register("arrays", dict(zip("gyp", codes, strict=True)))
    connection.execute("CREATE TABLE faces AS FROM arrays")
    query = "SELECT g, y, p, count(*) AS n FROM faces GROUP BY ALL"
    seconds, found = alternate(
        {
            "read": lambda: [int(code.view(np.int64).sum()) for code in codes],
            "cube": lambda: confusion_cube(*codes, SHAPE),
            "duckdb": lambda: connection.execute(query).fetchnumpy(),
        },
        7,
    )
    theirs = np.zeros(SHAPE, dtype=np.int64)
    theirs[found["duckdb"]["g"], found["duckdb"]["y"], found["duckdb"]["p"]] = found["duckdb"]["n"]
    np.testing.assert_array_equal(theirs, found["cube"])
    print(f"{rows:,} rows: cube {1000 * seconds['cube']:.1f} ms, {seconds['cube'] / seconds['read']:.1f} × one read")
    print(f"duckdb: {seconds['duckdb'] / seconds['cube']:.1f} times as long as the cube")


if __name__ == "__main__":
    main()
