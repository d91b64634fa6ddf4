"""The published JSON schemas of the files that fairaudit writes."""

import json
from pathlib import Path
from typing import Any

from fairaudit.registry import lookup

FOLDER = Path(__file__).resolve().parent
SCHEMAS: dict[str, Path] = {"audit": FOLDER / "audit.schema.json"}


def schema_text(name: str) -> str:
    """Return a schema as it is published. Raises UsageError for an unknown name."""
    return lookup(SCHEMAS, name, "schema").read_text(encoding="utf-8")


def load_schema(name: str) -> dict[str, Any]:
    """Return a schema as a mapping; errors as in `schema_text`."""
    found: dict[str, Any] = json.loads(schema_text(name))
    return found
