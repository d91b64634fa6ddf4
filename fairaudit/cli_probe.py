"""What `fairaudit robustness` and `fairaudit masking` do alike: open a model, look at changed faces, write a page."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from fairaudit.spec import Spec


def probe(
    checkpoint: str,
    data: Path,
    out: Path,
    *,
    kind: str,
    marker: str,
    look: Callable[[Spec], Callable[..., Any]],
    write: Callable[..., Path],
    headline: Callable[[Any], Sequence[str]],
    dataset: str | None,
    spec: Path | None,
    split: str,
    task: list[str] | None,
    device: str,
    model_spec: str | None,
    trust_code: bool,
) -> None:
    """Look at the faces with `look(spec)`, write its page with `write`, and print its headline.

    `kind` and `marker` name what the folder `out` holds, for whoever finds something else there.
    """
    from fairaudit.console import Bars, say
    from fairaudit.files import claim
    from fairaudit.inputs import audit_settings, data_spec, faces_for, heads_of
    from fairaudit.models.wrapped.opening import open_model

    claim(out, kind, marker, whole=False)
    model = open_model(checkpoint, model_spec, trust_code=trust_code)
    loaded = data_spec(dataset, spec, model.meta)
    act = look(loaded)
    with Bars() as bars:
        table, which = faces_for(model.meta, data, dataset, spec, split, bars)
        say(f"{which}: {len(table):,}")
        found = act(
            model,
            table,
            out,
            audit=audit_settings(loaded, None),
            tasks=task or heads_of(model, loaded.tasks, say),
            seed=loaded.seed,
            device=device,
            progress=bars,
        )
        for warning in found.meta["warnings"]:
            say(f"  {warning}")
        page = write(found, out)
    for line in headline(found):
        typer.echo(line)
    typer.echo(f"Open {page}")


def changed(asked: Any, given: Mapping[str, Any]) -> Any:
    """Return a table of the spec with what was given on the command line in place of its own."""
    return asked.model_copy(update={key: value for key, value in given.items() if value not in (None, ())})
