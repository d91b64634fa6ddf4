"""Sets of faces are joined and their labels brought into one scheme a head; what a scheme cannot express is masked."""

from collections.abc import Sequence
from pathlib import PurePosixPath

import pandas as pd

from fairaudit.data.raw import Finding, RawFaces
from fairaudit.data.taxonomy import SCHEMES, map_labels
from fairaudit.errors import DataError, UsageError
from fairaudit.registry import lookup, suggestion
from fairaudit.spec import DataSpec, SourceSpec


def join_sources(sources: Sequence[tuple[SourceSpec, RawFaces]], data: DataSpec) -> RawFaces:
    """Return one RawFaces of one or more sets, each head's labels in its target scheme.

    Of several sets every image name starts with its set's folder, and the attribute `dataset` says where it is from.
    A label that the target scheme cannot express is masked; one finding a face says so.
    Raises UsageError where sets use different schemes and `target_schemes` does not say which is meant.
    """
    attributes = tuple(dict.fromkeys(name for _, raw in sources for name in raw.attributes))
    targets = {name: _target(name, sources, data) for name in attributes}
    for name in data.target_schemes:
        if name not in attributes:
            raise UsageError(f"data.target_schemes: no attribute {name!r}{suggestion(name, attributes)} in these data")
    mapped = [_mapped(source, raw, targets) for source, raw in sources]
    if len(sources) == 1:
        raw = mapped[0]
        return _with(raw, attributes, targets, raw.findings, raw.frame, raw.excluded, raw.label_source)
    if "dataset" in attributes:
        raise UsageError(
            "a merged set has an attribute 'dataset' of its own, which would hide the sets' column: rename it"
        )
    names = _dataset_names([source for source, _ in sources])
    folders = [source.folder for source, _ in sources]
    raws = [_prefixed(raw, *where) for raw, *where in zip(mapped, folders, names, strict=True)]
    frame = pd.concat([raw.frame for raw in raws], ignore_index=True)
    if frame["image"].duplicated().any():
        twice = frame.loc[frame["image"].duplicated(), "image"].iloc[0]
        raise UsageError(f"data.sources: two sets hold the same file ({twice}); give each its own folder")
    excluded = pd.concat([raw.excluded for raw in raws], ignore_index=True)
    said = " ".join(f"{name}: {raw.label_source}" for raw, name in zip(raws, names, strict=True) if raw.label_source)
    raw = RawFaces(
        frame=frame,
        attributes=attributes,
        default_tasks=tuple(dict.fromkeys(task for raw in raws for task in raw.default_tasks)),
        meta={key: value for raw in raws for key, value in raw.meta.items()},
    )
    listed = [row for raw in raws for row in raw.findings]
    return _with(raw, (*attributes, "dataset"), targets, listed, frame, excluded, said)


def task_classes(raw: RawFaces, task: str) -> tuple[str, ...]:
    """Return a task's classes: its scheme's, in order, else its labels sorted; never fewer than one.

    Raises UsageError for a task that is no attribute of the data, DataError where no face has a label of it.
    """
    if task not in raw.attributes:
        raise UsageError(
            f"task {task!r}: the data have no such label{suggestion(task, raw.attributes)} "
            f"(they have: {', '.join(raw.attributes) or 'none'})"
        )
    if task in raw.schemes:
        return SCHEMES[raw.schemes[task]].classes
    classes = tuple(sorted(raw.frame[task].dropna().unique()))
    if not classes:
        raise DataError(f"task {task!r}: no image has a usable label of it")
    return classes


def as_category(raw: RawFaces, name: str, classes: Sequence[str] | None = None) -> pd.Categorical:
    """Return an attribute as a categorical: its scheme's order where it has one, else sorted."""
    scheme = SCHEMES.get(raw.schemes.get(name, ""))
    order = classes or (scheme.classes if scheme else sorted(raw.frame[name].dropna().unique()))
    return pd.Categorical(raw.frame[name], categories=list(order), ordered=bool(scheme and scheme.ordered))


def _target(name: str, sources: Sequence[tuple[SourceSpec, RawFaces]], data: DataSpec) -> str | None:
    if name in data.target_schemes:
        return lookup(SCHEMES, data.target_schemes[name], "label scheme").name
    known = {raw.schemes.get(name) for _, raw in sources if name in raw.attributes}
    if len(known) > 1:
        given = ", ".join(f"{source.dataset}: {raw.schemes.get(name, 'none known')}" for source, raw in sources)
        raise UsageError(
            f"the sets label {name} in different schemes ({given}); say which one the head learns: "
            f"data.target_schemes.{name} = one of {', '.join(s.name for s in SCHEMES.values() if s.attribute == name)}"
        )
    return known.pop()


def _mapped(source: SourceSpec, raw: RawFaces, targets: dict[str, str | None]) -> RawFaces:
    """Return one set with its labels in the target schemes, and one finding for each face that loses its label."""
    frame, excluded = raw.frame.copy(), raw.excluded.copy()
    findings: list[Finding] = []
    for name in raw.attributes:
        target, given = targets[name], raw.schemes.get(name)
        if target is None or target == given:
            continue
        if given is None:
            known = ", ".join(s.name for s in SCHEMES.values() if s.attribute == name)
            raise UsageError(
                f"{source.dataset}: {name} is in no known scheme, so it cannot be brought into {target}; "
                f"map its values with data.values and say data.schemes.{name} (one of {known})"
            )
        before = frame[name]
        frame[name] = map_labels(before, given, target).astype(object)
        if name in excluded:
            excluded[name] = map_labels(excluded[name], given, target).astype(object)
        lost = before.notna() & frame[name].isna()
        detail = f"labelled {name} {{}} ({given}), which {target} cannot express: masked for that head"
        findings += [
            ("masked_label", image, "masked", detail.format(label))
            for image, label in zip(frame.loc[lost, "image"], before[lost], strict=True)
        ]
    return _with(raw, raw.attributes, targets, [*raw.findings, *findings], frame, excluded, raw.label_source)


def _with(
    raw: RawFaces,
    attributes: tuple[str, ...],
    targets: dict[str, str | None],
    findings: Sequence[Finding],
    frame: pd.DataFrame,
    excluded: pd.DataFrame,
    label_source: str,
) -> RawFaces:
    return RawFaces(
        frame=frame,
        attributes=attributes,
        schemes={name: target for name, target in targets.items() if target and name in attributes},
        default_tasks=raw.default_tasks,
        findings=findings,
        excluded=excluded,
        label_source=label_source,
        meta=raw.meta,
    )


def _dataset_names(sources: Sequence[SourceSpec]) -> list[str]:
    """Return what the `dataset` attribute calls each set: its kind, or its folder where two are of one kind."""
    kinds = [source.dataset for source in sources]
    return [source.folder if kinds.count(source.dataset) > 1 else source.dataset for source in sources]


def _prefixed(raw: RawFaces, folder: str, dataset: str) -> RawFaces:
    def name_of(image: str) -> str:
        return (PurePosixPath(folder) / image).as_posix() if image else ""

    return RawFaces(
        frame=raw.frame.assign(image=raw.frame["image"].map(name_of), dataset=dataset),
        attributes=raw.attributes,
        default_tasks=raw.default_tasks,
        findings=[(kind, name_of(image), action, detail) for kind, image, action, detail in raw.findings],
        excluded=raw.excluded.assign(dataset=dataset),
        label_source=raw.label_source,
        meta=raw.meta,
    )
