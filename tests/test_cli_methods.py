"""`fairaudit compare NAME=AUDIT,AUDIT,…`: methods with seeds, through the command line."""

from pathlib import Path

import pytest
from report_data import make_predictions
from typer.testing import CliRunner

from fairaudit.audit import run_audit
from fairaudit.cli import app
from fairaudit.cli_methods import grouped
from fairaudit.data.predictions import read_predictions
from fairaudit.errors import UsageError
from fairaudit.results import MethodComparison


def audits(folder: Path, name: str, first: int) -> str:
    """Audit three seeds of a model and return the argument that names them."""
    made = []
    for seed in range(first, first + 3):
        frame = make_predictions(400, seed=0)
        worse = make_predictions(400, seed=seed)["gender_pred"]
        table = read_predictions(
            frame.assign(gender_pred=worse.where(frame.index % 5 == seed % 5, frame["gender_pred"]))
        )
        run_audit(table, by=["race"], name=name).save(folder / f"{name}{seed}", table)
        made.append(str(folder / f"{name}{seed}"))
    return f"{name}={','.join(made)}"


def test_methods_are_compared_and_their_page_written(tmp_path: Path) -> None:
    """Tables, page with links to each seed's audit, sentences, and the warning that validation is lacking."""
    out = tmp_path / "methods"
    arguments = [audits(tmp_path, "plain", 0), audits(tmp_path, "other", 10)]
    ran = CliRunner().invoke(app, ["compare", *arguments, "--out", str(out), "--margin", "0.1"])
    assert ran.exit_code == 0, ran.output
    found = MethodComparison.load(out)
    assert found.meta["seeds"] == {"plain": ["1", "2", "3"], "other": ["1", "2", "3"]}
    assert found.meta["margin"] == 0.1
    assert "No validation predictions were given" in ran.output
    assert "../other11/index.html" in (out / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a=x", "y"], "both kinds"),
        (["a=x,,y", "b=z"], "each name once"),
        (["a=x", "a=y"], "each name once"),
        (["a=x"], "at least one other"),
    ],
)
def test_wrong_groups_are_refused(arguments: list[str], words: str) -> None:
    """Each in a sentence that shows the form."""
    with pytest.raises(UsageError, match=words):
        grouped([Path(text) for text in arguments])


def test_plain_folders_are_no_groups() -> None:
    """As before: one checkpoint each."""
    assert grouped([Path("a"), Path("b")]) is None
