"""The audit spec: a TOML file becomes frozen pydantic models; an unknown key is an error with its path.

A spec says what is to be done; it holds no path outside its own folder, except names of folders below `--data`. Each
module here has the tables of one subject; all of them are imported from `fairaudit.spec`.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, Field, ValidationError

from fairaudit import subgroups
from fairaudit.errors import UsageError
from fairaudit.population import read_population
from fairaudit.registry import suggestion
from fairaudit.spec.audit import AuditSpec, LabelNoiseSpec, PlanSpec, ReportSpec, SelectionSpec, acknowledgement
from fairaudit.spec.data import (
    BalanceSpec,
    ColumnsSpec,
    DataSpec,
    PlantedBias,
    SourceSpec,
    SplitSpec,
    SyntheticSpec,
)
from fairaudit.spec.mitigation import MitigateSpec, MitigationSpec
from fairaudit.spec.model import AugmentationSpec, ForestSpec, HeadSpec, ModelSpec, TrainingSpec
from fairaudit.spec.part import SpecPart
from fairaudit.spec.probes import AttributionSpec, MaskingSpec, RobustnessSpec

__all__ = [
    "AttributionSpec",
    "AuditSpec",
    "AugmentationSpec",
    "BalanceSpec",
    "ColumnsSpec",
    "DataSpec",
    "ForestSpec",
    "HeadSpec",
    "LabelNoiseSpec",
    "MaskingSpec",
    "MitigateSpec",
    "MitigationSpec",
    "ModelSpec",
    "PlanSpec",
    "PlantedBias",
    "ReportSpec",
    "RobustnessSpec",
    "SelectionSpec",
    "SourceSpec",
    "Spec",
    "SplitSpec",
    "SyntheticSpec",
    "TrainingSpec",
    "acknowledgement",
    "load_spec",
    "parse_spec",
    "plain_errors",
]


class Spec(SpecPart):
    """One audit, whole: data, split, model, training, audit, mitigations, attribution."""

    name: str
    question: str = ""
    seed: int = Field(0, ge=0)
    tasks: tuple[str, ...] = ()
    data: DataSpec
    split: SplitSpec = SplitSpec()
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    audit: AuditSpec = AuditSpec()
    mitigations: tuple[MitigationSpec, ...] = ()
    mitigate: MitigateSpec = MitigateSpec()
    attribution: AttributionSpec = AttributionSpec()
    robustness: RobustnessSpec | None = Field(None, description="without this table robustness is not measured")
    report: ReportSpec = ReportSpec()
    masking: MaskingSpec | None = Field(None, description="without this table nothing is masked")
    sweep: dict[str, tuple[Any, ...]] = Field(
        default_factory=dict,
        description="for `fairaudit sweep`: values to try of keys of model and training, every combination of them",
    )


def load_spec(path: Path) -> Spec:
    """Read a TOML spec.

    Raises UsageError where the file is missing, is no TOML, or has an unknown or impossible key: the message gives the
    key's path, what was given and, for an unknown key, the nearest known one.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"spec {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"spec {path} cannot be read as TOML: {error}") from None
    part = raw.get("audit")
    if isinstance(part, dict) and isinstance(part.get("population"), str):
        part["population"] = read_population(_beside(path, part["population"]))
    return parse_spec(raw, str(path))


def _beside(path: Path, name: str) -> Path:
    """Return the file `name` in the spec's folder; UsageError for a path that leads out of it."""
    if Path(name).name != name:
        raise UsageError(f"spec {path}: population = {name!r} must be the name of a file in the spec's own folder")
    return path.parent / name


def parse_spec(raw: Mapping[str, Any], where: str = "spec") -> Spec:
    """Turn a mapping into a Spec; errors as in `load_spec`."""
    try:
        spec = Spec.model_validate(raw)
    except ValidationError as error:
        raise UsageError(plain_errors(error, where)) from None
    probes = [probe for probe in (spec.robustness, spec.masking) if probe is not None]
    probed = [by for probe in probes for by in probe.subgroups or ()]
    for by in (*(spec.audit.subgroups or ()), *(entry.by for entry in spec.mitigations), *probed):
        subgroups.parse(by)
    return spec


def plain_errors(error: ValidationError, where: str, root: type[BaseModel] = Spec) -> str:
    """Return what pydantic says of the file `where`, a line an error, in sentences a user can act on."""
    return "\n".join([f"{where}:", *(f"  {_plain(part, root)}" for part in error.errors())])


def _plain(error: Mapping[str, Any], root: type[BaseModel]) -> str:
    """Return one pydantic error as a sentence."""
    location = [str(part) for part in error["loc"]]
    path = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _fields_at(location[:-1], root)
        return f"unknown key {path!r}{suggestion(location[-1], known)} (known here: {', '.join(known)})"
    if error["type"] == "missing":
        return f"key {path!r} is missing"
    return f"{path or 'spec'} = {error['input']!r}: {error['msg']}" if path else str(error["msg"])


def _fields_at(location: list[str], root: type[BaseModel]) -> list[str]:
    """Return the keys that the table at `location` may have."""
    model: Any = root
    named = False  # the next part is a name that the user chose: a key of a mapping
    for part in location:
        if part.isdigit() or named:
            named = False
            continue
        field = model.model_fields.get(part)
        found = _models_in(field.annotation) if field else []
        if field is None or not found:
            return []
        model, named = found[0], get_origin(field.annotation) is dict
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for inner in getattr(annotation, "__args__", ()) for kind in _models_in(inner)]
