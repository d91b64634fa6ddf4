"""One page: its template, the one style and the one script, and a policy under which nothing else is loaded or run."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fairaudit import __version__
from fairaudit.files import file_hash, write_json, write_text
from fairaudit.report.figures import tick_drawings
from fairaudit.report.words import bounds, count, counted, figure, unbroken
from fairaudit.resources import resource_dir
from fairaudit.results.files import PAGES
from fairaudit.wording import plural

_REORDER = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_RIGHT = "\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufeff"
_FROM_RIGHT = re.compile(f"[{_RIGHT}](?:[{_RIGHT} ]*[{_RIGHT}])?")


def write_page(template: str, path: Path, **data: Any) -> Path:
    """Write one page from its template, whole or not at all, and return its path."""
    write_text(path, render(template, **data))
    return path


def render(template: str, **data: Any) -> str:
    """Return what a template prints; every name in `data` is escaped there."""
    text = _environment().get_template(template).render(version=__version__, **data)
    text = text.replace("<body>", f"<body>\n{tick_drawings(text)}", 1)
    # Names may run from right to left: isolated, they turn around neither figures nor other names of their line, and
    # characters that would reorder text unseen are printed as what they are.
    text = _REORDER.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
    return _FROM_RIGHT.sub("\u2068\\g<0>\u2069", text)


def record_pages(out: Path, names: Sequence[str], marker: str | None) -> None:
    """Write the hashes of the pages, and of the result beside them that they show (None where it lies elsewhere)."""
    shown = None if marker is None or not (out / marker).is_file() else {marker: file_hash(out / marker)}
    pages = {name: file_hash(out / name) for name in sorted(names)}
    write_json(out / PAGES, {"fairaudit": __version__, "shown": shown, "pages": pages})


@lru_cache(maxsize=1)
def head_parts() -> Mapping[str, Markup]:
    """Return `style`, `script` and the Content-Security-Policy that names both by hash and allows nothing else.

    So neither a name in the data nor a later edit of the page can run code, set a style or reach a network; images are
    those inside the page. Style attributes are blocked, too: templates use classes and SVG's own attributes.
    """
    folder = resource_dir("templates")
    style, script = (_packed((folder / name).read_text(encoding="utf-8")) for name in ("style.css", "report.js"))
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return {"style": Markup(style), "script": Markup(script), "policy": Markup(policy)}


def _packed(text: str) -> str:
    """Return a style or script without indentation, empty lines and lines that are comments: every page carries it."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _source(text: str) -> str:
    """Return the CSP source expression of an inline element with exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(resource_dir("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(figure=figure, count=count, counted=counted, plural=plural, head_parts=head_parts)
    environment.filters.update(whole=unbroken, bounds=bounds)
    return environment
