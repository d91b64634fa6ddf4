"""A function that a user names as "module:function". Naming it is what runs its module: nothing in a file does."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fairaudit.errors import UsageError


@contextmanager
def current_folder_last() -> Iterator[None]:
    """Let modules of the current folder be imported, after all that is installed."""
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def is_named(text: str) -> bool:
    """Return whether `text` has the form module:function."""
    module, colon, path = text.partition(":")
    parts = (*module.split("."), *path.split("."))
    return bool(module and colon and path) and all(part.isidentifier() for part in parts)


def find_named(text: str, kind: str, example: str) -> Any:
    """Import and return what `text` ("module:function") names; `kind` and `example` are for the messages.

    Modules are looked for where python is installed, then in the current folder. Raises UsageError where there is none.
    """
    if not is_named(text):
        raise UsageError(f"{kind} {text!r}: write module:function, such as {example}")
    module, _, path = text.partition(":")
    with current_folder_last():
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not (module == error.name or module.startswith(f"{error.name}.")):
                raise UsageError(f"{kind} {text!r}: {module} needs a module that is not there: {error}") from None
            raise UsageError(
                f"{kind} {text!r}: there is no module {error.name!r}, neither installed nor in {Path.cwd()}"
            ) from None
        except Exception as error:
            raise UsageError(
                f"{kind} {text!r}: importing {module} failed ({type(error).__name__}: {first_line(error)})"
            ) from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{kind} {text!r}: {module} has no {path!r}")
        found = getattr(found, part)
    return found


def first_line(error: object) -> str:
    """Return the first line of what an exception says, at most 200 characters."""
    return (str(error).strip().splitlines() or [""])[0][:200]
