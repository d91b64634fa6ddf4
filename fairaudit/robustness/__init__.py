"""Whose accuracy falls when pictures get worse: predictions of perturbed faces, tables, tests and sentences."""
