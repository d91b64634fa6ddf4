"""The command line. Heavy imports stand inside the commands, so that `--help` answers at once."""

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fairaudit import __version__
from fairaudit.cli_attribute import attribute
from fairaudit.cli_audit import audit
from fairaudit.cli_checks import diff, schema, selftest, verify
from fairaudit.cli_compare import compare
from fairaudit.cli_data import data_app
from fairaudit.cli_masking import masking
from fairaudit.cli_mitigate import mitigate
from fairaudit.cli_plan import plan, power
from fairaudit.cli_predict import join, predict
from fairaudit.cli_report import report
from fairaudit.cli_robustness import robustness
from fairaudit.cli_run import demo, run_spec, sweep, train
from fairaudit.errors import FairauditError
from fairaudit.registry import lookup

app = typer.Typer(
    name="fairaudit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Does this face model treat people equally, and how sure are we?\n\n"
    "Train or wrap a face classifier, audit it over race, gender, age and their intersections, mitigate, compare, "
    "and write HTML reports that open offline.\n\n"
    "Exit codes: 0 done, policies pass or none declared · 1 a policy fails (audit, run --enforce), or verify or "
    "selftest finds a mismatch · 2 wrong use or bad spec · 3 a policy stays inconclusive (only with --strict) · "
    "4 unusable data or checkpoint · 5 disk full, read-only or internal error · 130 interrupted (run the same command "
    "again to go on).",
)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        typer.echo(f"fairaudit {__version__}")
        raise typer.Exit


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="audits, datasets, backbones, presets, metrics, mitigations, attributions, perturbations, schemes, "
            "schemas, sections."
        ),
    ] = None,
) -> None:
    """List what a spec may name."""
    from fairaudit.console import listings

    tables = listings()
    for name in [kind] if kind else list(tables):
        found = lookup(tables, name, "kind of thing to list")()
        if kind and any(": " in entry for entry in found):
            typer.echo("\n".join(found))
        else:
            typer.echo(f"{name}: {', '.join(entry.split(': ')[0] for entry in found)}")


COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "run": run_spec,
    "train": train,
    "sweep": sweep,
    "predict": predict,
    "join": join,
    "audit": audit,
    "report": report,
    "attribute": attribute,
    "robustness": robustness,
    "masking": masking,
    "mitigate": mitigate,
    "compare": compare,
    "diff": diff,
    "plan": plan,
    "power": power,
    "verify": verify,
    "selftest": selftest,
    "schema": schema,
    "list": list_names,
}
for _name, _command in COMMANDS.items():
    app.command(name=_name)(_command)
app.add_typer(data_app, name="data")

_INTERRUPTED = "interrupted: run the same command again to go on where it stopped"
# typer's own class for wrong use (BadParameter → UsageError → ClickException), whichever click it is built on
_WRONG_USE: Any = typer.BadParameter.__mro__[2]


def main() -> None:
    """Run the command line; every error ends in a plain sentence and the exit code of its kind."""
    sys.exit(_guarded())


def _guarded() -> int:
    try:
        code = int(app(standalone_mode=False) or 0)
        return _stop(_INTERRUPTED, code) if code == 130 else code  # typer turns Ctrl-C into a silent 130
    except (typer.Abort, KeyboardInterrupt):
        return _stop(_INTERRUPTED, 130)
    except _WRONG_USE as error:
        error.show()
        return 2
    except FairauditError as error:
        return _stop(str(error), error.exit_code)
    except OSError as error:
        free = shutil.disk_usage(Path.cwd()).free if error.errno else 0
        return _stop(f"{error.strerror or error}: {error.filename or ''} ({free >> 20:,} MiB free here)", 5)
    except Exception as error:
        if os.environ.get("FAIRAUDIT_DEBUG"):
            traceback.print_exc()
        return _stop(f"internal error ({type(error).__name__}: {error}); set FAIRAUDIT_DEBUG=1 to see where", 5)


def _stop(message: str, code: int) -> int:
    typer.echo(f"fairaudit: {message}", err=True)
    return code
