"""Numbers in sentences."""


def plural(n: int, one: str, many: str | None = None) -> str:
    """Return "1 face" or "1,204 faces"; `many` where it is more than an s: plural(n, "face lacks", "faces lack")."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
