"""The answer of a comparison: a difference that turned around, or grew, is never told as one that fell."""

from dataclasses import replace
from typing import Any

import pytest

from fairaudit.metrics import harm
from fairaudit.report.answer import Change, _lead, _open_harm, pair_change_state


def pair(before: float, after: float, low: float, high: float) -> dict[str, Any]:
    """Return the named pair's columns of a row of gap_changes.csv."""
    numbers = {"baseline": before, "mitigated": after, "delta": after - before, "low": low, "high": high}
    return {f"pair_{name}": value for name, value in numbers.items()}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (pair(0.10, 0.04, -0.09, -0.03), "smaller"),
        (pair(0.04, 0.10, 0.03, 0.09), "larger"),
        (pair(0.005, -0.009, -0.029, -0.001), "larger"),  # the other group is ahead now, and further
        (pair(-0.05, -0.01, 0.01, 0.07), "smaller"),  # named the wrong way round on validation faces
        (pair(0.10, 0.04, -0.12, 0.01), "open"),
        (pair(0.10, float("nan"), float("nan"), float("nan")), "none"),
    ],
)
def test_a_pair_comes_closer_or_moves_apart(row: dict[str, Any], state: str) -> None:
    """What counts is how far apart the two groups are, not which sign the change has."""
    assert pair_change_state(row) == state


def test_good_and_bad_news_stand_in_one_sentence() -> None:
    """Pairs that moved apart are named beside those that came closer."""
    changes = [
        Change(
            task=task, by="race", crossed=False, state="open", word="no change shown", text="", pair=f"pair of {task}.",
            pair_state=state, costs="", harm="", verdicts=frozenset(), levelling=False,
            metric="accuracy",
        )
        for task, state in (("gender", "smaller"), ("age", "larger"), ("race", "open"))
    ]  # fmt: skip
    said = " ".join(_lead("reweighing", False, changes))
    assert "the difference fell in gender by race (pair of gender) and grew in age by race (pair of age)." in said
    assert "pair of race" not in said


def change(by: str, *verdicts: str) -> Change:
    """Return a change whose subgroups have these verdicts, with a sentence about harm of its own."""
    return Change(
        task="age", by=by, crossed=":" in by, state="open", word="no change shown", text="", pair="", pair_state="open",
        costs="", harm=f"Bounds of {by}.", verdicts=frozenset(verdicts), levelling=False,
        metric="accuracy",
    )  # fmt: skip


def test_harm_that_is_shown_is_said_and_what_is_open_is_folded_but_never_lost() -> None:
    """Shown harm stands in the lead with its bounds, before good news; axes left open are named in one sentence, each
    one's bounds below it; a single one keeps its own sentence; nothing is said twice."""
    changes = [
        change("gender", harm.NOT_HARMED),
        change("race", harm.NOT_HARMED, harm.OPEN),
        change("age", harm.OPEN),
        change("camera", harm.OPEN, harm.HARMED),
        change("race:age", harm.OPEN),  # crossed axes have a fold of their own
    ]
    lead = _lead("m", False, changes)
    assert lead.index("Bounds of camera.") < lead.index("Bounds of gender.")
    said, folded = _open_harm(changes)
    assert "age by race and age by age" in said and folded == ["Bounds of race.", "Bounds of age."]
    assert not set(folded) & set(lead)
    assert _open_harm(changes[1:2]) == ("Bounds of race.", [])
    assert _open_harm(changes[:1]) == ("", [])


def test_harm_on_an_intersection_or_beside_an_unknown_gap_leads_too() -> None:
    """Shown harm needs neither a single axis nor a gap that could be compared."""
    unknown = replace(change("race", harm.HARMED), state="none")
    assert _lead("m", False, [unknown]) == ["m: no gap on a single axis could be compared.", "Bounds of race."]
    crossed = [change("gender", harm.OPEN), change("race:gender", harm.HARMED), unknown]
    lead = _lead("m", False, crossed)
    assert lead[1:] == ["Bounds of race:gender.", "Bounds of race."]
    assert not any("shown to have lost" in line for line in lead)


def test_what_is_said_to_be_unchanged_is_what_was_looked_at() -> None:
    """Where no headline metric is there, the lead does not speak of accuracy and recall."""
    one = change("race", harm.NOT_HARMED)
    assert _lead("m", False, [one])[0] == "m: no gap in accuracy or recall on a single axis is shown to have changed."
    other = replace(one, metric="selection_rate")
    assert _lead("m", False, [one, other])[0] == "m: no gap on a single axis is shown to have changed."
