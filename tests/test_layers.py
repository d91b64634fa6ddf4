"""Imports go down the layers only."""

import ast
from pathlib import Path

import fairaudit

PACKAGE = Path(fairaudit.__file__).parent
# a module may import from its own layer and from lower ones
LAYERS = {
    **dict.fromkeys(
        (
            "cli",
            *("cli_run", "cli_audit", "cli_report", "cli_compare"),
            "cli_methods",
            "cli_data",
            "cli_predict",
            "cli_attribute",
            "cli_options",
            "cli_plan",
            "__main__",
            "console",
            *("pipeline", "run_checks", "model_stages", "audit_stages"),
            "sweep",
            "stages",
            "inputs",
        ),
        6,
    ),
    **dict.fromkeys(
        ("cli_mitigate", "mitigate", "mitigate_plan", "mitigate_files", "mitigate_compare", "refit_stage"), 6
    ),
    "report": 5,
    **dict.fromkeys(("task_measures", "calibration_tables", "roc_tables"), 4),
    **dict.fromkeys(("audit", "audit_meta", "audit_tables", "axes", "analyses", "pooled", "gap_tables"), 4),
    **dict.fromkeys(("criteria", "summary_table", "confusion_tables", "impact_table"), 4),
    **dict.fromkeys(("custom_table", "custom_metrics"), 4),
    **dict.fromkeys(("covariates", "adjusted", "adjusted_table", "label_noise_table", "label_inversions"), 4),
    **dict.fromkeys(("policy_checks", "policy_tables", "exploratory_table", "population_table"), 4),
    **dict.fromkeys(("verification", "verified_pages", "verified_tables"), 4),
    **dict.fromkeys(("compared_axis", "axis_tests", "rest_tests", "disparity_tests", "gap_tests"), 4),
    **dict.fromkeys(("findings", "finding_words", "pooling_table"), 4),
    **dict.fromkeys(("cli_checks", "cli_robustness", "cli_masking", "cli_probe", "probe_stages"), 6),
    **dict.fromkeys(("robustness", "masking"), 4),
    **dict.fromkeys(("selftest", "audit_diff", "audit_shifts"), 5),
    "schemas": 0,
    **dict.fromkeys(("comparison", "comparison_tables", "comparison_summary", "attribution"), 4),
    **dict.fromkeys(("comparison_harm", "methods", "method_axis", "method_tables", "method_words"), 4),
    "models": 3,
    **dict.fromkeys(("mitigation", "metrics"), 2),
    **dict.fromkeys(("data", "results"), 1),
    **dict.fromkeys(("spec", "subgroups", "registry", "resources", "errors", "files", "progress", "__init__"), 0),
    **dict.fromkeys(("environment", "wording"), 0),
    "named_code": 0,
    **dict.fromkeys(("policies", "population", "plan", "frames"), 0),
}
NEEDS_NO_TORCH = (
    *("compared_axis", "axis_tests", "rest_tests", "disparity_tests", "gap_tests"),
    *("findings", "finding_words", "pooling_table"),
    "task_measures",
    "calibration_tables",
    "roc_tables",
    *("covariates", "adjusted", "adjusted_table", "label_noise_table", "label_inversions"),
    "report",
    "audit",
    *("audit_meta", "audit_tables"),
    "axes",
    "analyses",
    "pooled",
    "gap_tables",
    "criteria",
    "summary_table",
    "confusion_tables",
    "impact_table",
    "custom_table",
    "custom_metrics",
    "policy_checks",
    "policy_tables",
    "verification",
    "verified_pages",
    "verified_tables",
    "audit_diff",
    "audit_shifts",
    "selftest",
    *("comparison", "comparison_harm", "methods", "method_axis", "method_tables", "method_words"),
    "comparison_tables",
    "metrics",
    "results",
    "comparison_summary",
)


def imports(path: Path) -> set[str]:
    """Full names of everything a module imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


def part_of(name: str) -> str:
    """First part below the package: `fairaudit.data.tables` is in `data`."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def test_every_module_has_a_layer_and_imports_go_down() -> None:
    """No module imports from a layer above its own; a new top-level module needs a line in LAYERS."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        if own in ("templates", "audits", "presets"):
            continue
        assert own in LAYERS, f"{relative}: give it a layer in this test"
        for name in imports(path):
            if name.startswith("fairaudit.") and LAYERS[part_of(name)] > LAYERS[own]:
                wrong.append(f"{relative} (layer {LAYERS[own]}) imports {name} (layer {LAYERS[part_of(name)]})")
    assert not wrong, "\n".join(wrong)


def test_what_needs_no_torch_imports_none() -> None:
    """Audit, comparison, metrics, results and report name no deep-learning library."""
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") in NEEDS_NO_TORCH:
            roots = {name.split(".")[0] for name in imports(path)}
            assert not roots & {"torch", "torchvision", "captum", "sklearn"}, path
