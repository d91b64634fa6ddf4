"""open_model: a checkpoint folder, a model file or "module:function" becomes a FaceModel, by what it is."""

import zipfile
from pathlib import Path
from typing import Any

from fairaudit.errors import DataError, UsageError
from fairaudit.files import file_hash, value_hash
from fairaudit.models.checkpoint import load_checkpoint
from fairaudit.models.pickled import PICKLE, ZIP, UntrustedError, check_torch_file
from fairaudit.models.protocol import FaceModel
from fairaudit.models.weights import find_weights
from fairaudit.models.wrapped import functions, networks, onnx_files, programs
from fairaudit.models.wrapped.description import ModelDescription, find_description
from fairaudit.models.wrapped.model import Runner, WrappedModel, assemble
from fairaudit.models.wrapped.pictures import in_words, reader
from fairaudit.named_code import is_named

CODE = {
    "torchscript": "a TorchScript program",
    "export": "a torch.export program",
    "module": "a pickle that holds more than weights",
    "function": "a Python function",
}
_FOREIGN = {b"\x89HDF": "a Keras file (HDF5)", b"TFL3": "a TensorFlow Lite file", b"\x1f\x8b": "a gzip file"}


def open_model(model: str | Path, description: str | Path | None = None, *, trust_code: bool = False) -> FaceModel:
    """Return a checkpoint folder of `fairaudit train`, or anybody's model with its description, ready to predict.

    `description` is a model.toml or the name of a preset; by default it lies beside the model. Formats that carry code
    run only with `trust_code`. Raises UsageError for wrong use, DataError for a file that is damaged, hostile, or does
    not fit its description.
    """
    path = Path(model)
    if path.is_dir():
        if description is not None:
            raise UsageError(f"--model-spec means nothing with {path}: a checkpoint folder describes itself")
        return load_checkpoint(path)
    if not path.exists() and is_named(str(model)):
        return _wrap(str(model), "function", description, trust_code)
    if not path.is_file():
        raise DataError(
            f"{path} does not exist; give a checkpoint folder, a model file, or module:function for a Python function"
        )
    return _wrap(str(model), kind_of(path), description, trust_code)


def kind_of(path: Path) -> str:
    """Return the format of a model file by its first bytes and its directory: a key of FORMATS.

    Raises DataError for a file of another kind.
    """
    with path.open("rb") as stream:
        start = stream.read(16)
    if start[:4] == ZIP:
        return _kind_of_zip(path)
    if start[:1] == PICKLE:
        return _pickle_kind(path)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return "state-dict"
    foreign = next((name for magic, name in _FOREIGN.items() if magic in start[:8]), None)
    if foreign is None and (path.suffix == ".onnx" or start[:1] == b"\x08"):
        return "onnx"
    raise DataError(
        f"{path} is {foreign or 'of no known kind'}; allowed: state dicts (.pt, .pth, .safetensors), ONNX, "
        "TorchScript, torch.export programs, and module:function, which can wrap anything else"
    )


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is a damaged zip file: {error}") from None
    if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
        return "torchscript"
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in names):
        return "export"
    return _pickle_kind(path)


def _pickle_kind(path: Path) -> str:
    try:
        check_torch_file(path)
    except UntrustedError:
        return "module"
    return "state-dict"


def _wrap(model: str, kind: str, given: str | Path | None, trust_code: bool) -> WrappedModel:
    if kind in CODE and not trust_code:
        raise UsageError(
            f"{model} is {CODE[kind]}: it carries code that would run on this machine with your rights. If you trust "
            "who made it, say so with --trust-code; else ask for its weights (safetensors, a plain state dict) or ONNX"
        )
    description, path = find_description(given, model)
    if description.format not in (None, kind) and (description.format, kind) != ("state-dict", "module"):
        raise UsageError(f"{path}: format = {description.format!r}, but {model} is {kind!r}")
    description = ModelDescription.model_validate({**description.model_dump(exclude_unset=True), "format": kind})
    _refuse_unread(description, kind, path)
    runner: Runner
    if kind == "function":
        runner, file = functions.open_function(model)
    else:
        runner, file = _open(Path(model), kind, description), file_hash(Path(model))
    plain = {"divide_by": 1.0, "mean": (0.0,), "std": (1.0,)}
    if getattr(runner, "numpy_type", "") == "uint8" and plain != description.input.model_dump(include=set(plain)):
        raise UsageError(
            f"{path}: {model} takes bytes (uint8), which scaled values would be cut down to; give input.divide_by = 1 "
            "and leave mean and std out"
        )
    folders = [place.parent for place in (path, Path(model)) if place is not None]
    picture, more = reader(description.input, folders), list(getattr(runner, "more_files", ()))
    if description.input.align:
        more.append(find_weights(description.input.landmarks, folders))
    further = {one.name: file_hash(one) for one in more}
    return assemble(
        description,
        runner,
        picture,
        _meta(model, description, file, runner) | ({"further_files": further} if further else {}),
        value_hash([file, sorted(further.items()), description.model_dump(mode="json")]),
    )


def _open(path: Path, kind: str, description: ModelDescription) -> Runner:
    if kind == "state-dict":
        return networks.open_state_dict(path, description)
    if kind == "onnx":
        return onnx_files.open_onnx(path)
    if kind == "torchscript":
        return programs.open_torchscript(path)
    return programs.open_export(path) if kind == "export" else programs.open_pickled(path, description)


def _refuse_unread(description: ModelDescription, kind: str, path: Path | None) -> None:
    """Raise UsageError for keys that nothing would read."""
    unread = (
        {"network", "head", "prefix"} & description.model_fields_set if kind not in ("state-dict", "module") else ()
    )
    if unread:
        raise UsageError(
            f"{path}: a model of format {kind!r} is a whole network, so {', '.join(sorted(unread))} would not be read; "
            "leave it out, or give this file a description of its own (--model-spec)"
        )


def _meta(model: str, description: ModelDescription, file: str, runner: Runner) -> dict[str, Any]:
    """Return what reports say of the model: format, file, hash, preprocessing and outputs."""
    tasks = description.tasks
    outputs = "; ".join(
        f"{task}: {one.values} of {len(one.classes)} outputs" + (f" {list(one.columns)}" if one.columns else "")
        for task, one in tasks.items()
    )
    made = {
        "name": description.name or Path(model).name,
        "source": description.source,
        "file_format": description.format,
        "network": description.network or "",
        "file": Path(model).name,
        "sha256": file,
        "preprocessing": in_words(description.input, prepares=runner.prepares),
        "outputs": outputs,
        "description": description.model_dump(mode="json", exclude_unset=True),
    }
    return {key: value for key, value in made.items() if value}
