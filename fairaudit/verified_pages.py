"""The pages of a report against their hashes: what was changed, removed or added since they were written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairaudit.errors import DataError
from fairaudit.files import file_hash
from fairaudit.results.files import PAGES

NO_RECORD = (
    f"The pages were not checked: there is no {PAGES} beside them, which every report of this version writes; "
    "`fairaudit report` writes them again."
)


def changed_pages(folder: Path) -> tuple[int, list[tuple[str, str, str, str]], list[str]]:
    """Check the pages in a folder against the record that their report wrote.

    Return how many were checked; what is wrong as (file, what, stored, found); notes. Raises DataError for a record
    that is damaged or names a file outside the folder.
    """
    there = {path.relative_to(folder).as_posix() for path in (*folder.glob("*.html"), *folder.glob("groups/*.html"))}
    if not (folder / PAGES).is_file():
        return 0, [], [NO_RECORD] if there else []
    record = _record(folder / PAGES)
    wrong = []
    for name, told in record["pages"].items():
        if "\0" in name or not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder}: a page named {name!r} lies outside the folder; nothing outside is read")
        found = _hash(folder / name)
        if found != told:
            wrong.append((name, "SHA-256 of the page", told, found))
    for name, told in (record["shown"] or {}).items():
        if (found := _hash(folder / Path(name).name)) != told:
            wrong.append((PAGES, f"SHA-256 of the {Path(name).name} that the pages show", told, found))
    wrong += [
        (name, "", "no page", "a page that the report did not write") for name in sorted(there - {*record["pages"]})
    ]
    return len(record["pages"]), wrong, []


def _hash(path: Path) -> str:
    return file_hash(path) if path.is_file() else "the file is missing"


def _record(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        pages, shown = record["pages"], record["shown"]
        if not isinstance(pages, dict) or not isinstance(shown, dict | None):
            raise TypeError("pages or shown are no table of names and hashes")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): write the report again") from None
    return {"pages": pages, "shown": shown}
