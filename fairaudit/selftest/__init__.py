"""The known-answer suite that users run: does this installation compute what it promises?

Each case makes a small table whose answer is known beforehand, audits it, and lists what was expected and found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fairaudit.progress import Progress, silent
from fairaudit.selftest import answers, invariance, noise, peers
from fairaudit.selftest.checks import Check

Case = Callable[[], Sequence[Check]]

# name → function; the first line of its docstring says what is tested
CASES: Mapping[str, Case] = {
    "known-values": answers.known_values,
    "known-intervals": answers.known_intervals,
    "known-p-values": answers.known_p_values,
    "class-never-predicted": answers.class_never_predicted,
    "missing-class": answers.missing_class,
    "empty-and-one-member-groups": answers.small_groups,
    "degenerate-axis": answers.degenerate_axis,
    "weights": answers.weights,
    "helped-and-harmed": answers.helped_and_harmed,
    "planted-gap": noise.planted_gap,
    "planted-gap-in-an-intersection": noise.planted_intersection,
    "planted-gap-in-one-class": noise.planted_class,
    "random-attributes": noise.random_attributes,
    "no-disparity-at-fairface-size": noise.no_disparity,
    "policies": noise.policies,
    "rows-shuffled": invariance.rows_shuffled,
    "classes-renamed": invariance.classes_renamed,
    "groups-renamed": invariance.groups_renamed,
    "peers-macro-average": peers.macro_average,
    "peers-false-discovery": peers.false_discovery,
    "peers-group-denominator": peers.group_denominator,
    "peers-three-class-parity": peers.three_class_parity,
    "peers-group-without-positives": peers.group_without_positives,
    "peers-missing-group": peers.missing_group,
    "peers-all-groups-kept": peers.all_groups_kept,
    "peers-bootstrap-of-a-gap": peers.bootstrap_of_a_gap,
    "peers-pair-named-on-test": peers.pair_named_on_test,
}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One case: its name, what it tests, and its checks."""

    name: str
    tests: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check found what it expected."""
        return all(check.ok for check in self.checks)


def run_selftest(cases: Mapping[str, Case] = CASES, progress: Progress = silent) -> list[Outcome]:
    """Run every case; a case that raises has failed, and the error stands where the finding would."""
    outcomes = []
    for number, (name, case) in enumerate(cases.items()):
        progress("selftest", number, len(cases), name)
        try:
            checks = tuple(case())
        except Exception as error:  # whatever went wrong, the other cases are still worth knowing
            found = f"{type(error).__name__}: {error}"
            checks = (Check(what="the case runs", expected="no error", found=found, ok=False),)
        tests = (case.__doc__ or name).splitlines()[0]
        outcomes.append(Outcome(name=name, tests=tests, checks=checks))
    progress("selftest", len(cases), len(cases))
    return outcomes
