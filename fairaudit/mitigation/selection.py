"""Plain training whose epoch is chosen as every other method's is: by the worst subgroup, or from the Pareto front.

What a method gains over `erm` is in part this choice, which uses group labels of validation; this arm shows that part
alone. Zong, Yang & Hospedales, "MEDFAIR: benchmarking fairness for medical imaging", ICLR 2023, find that choosing a
model so matters more than most methods. Group labels: at validation. Cost: one fit.
"""

from fairaudit.mitigation.heads import fit_head
from fairaudit.mitigation.problem import Fitted, Problem


def selection(problem: Problem) -> Fitted:
    """Return the head trained on every labelled face alike, its epoch chosen as `settings.select` says."""
    return fit_head(problem)


def refuse(problem: Problem) -> str | None:
    """Return why the method would be plain training itself, or None."""
    if problem.settings.select != "overall":
        return None
    return "selection is plain training (erm) where mitigate.select = 'overall': choose by 'worst-subgroup' or 'pareto'"
