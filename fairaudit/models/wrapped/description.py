"""model.toml: what somebody states of a model that was not trained here: its classes, outputs and preprocessing."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fairaudit.errors import UsageError
from fairaudit.registry import suggestion
from fairaudit.resources import resource_dir
from fairaudit.spec import plain_errors

FORMATS = ("state-dict", "onnx", "torchscript", "export", "module", "function")
LARGEST_TOML = 1_000_000  # bytes
SINGLE = ("logit", "probability")  # one number a face: of the second class
Classes = Annotated[tuple[str, ...], Field(min_length=2, max_length=10_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TaskDescription(_Part):
    """One head: its classes in the order of its outputs, and where these are.

    Classes of one name are added up: ["White", "Black", "Asian", "Asian"] turns four outputs into three classes.
    """

    classes: Classes
    output: str | int | None = Field(None, description="name or number (from 0) of the output; default: the first one")
    columns: tuple[int, int] | None = Field(
        None, description="first column and the one after the last; default: after those of the head before"
    )
    values: Literal["logits", "probabilities", "logit", "probability"] = Field(
        "logits",
        description="one column a class: logits (a softmax follows) or probabilities; one column in all, that of the "
        "second of two classes: logit (a sigmoid follows) or probability",
    )
    ordered: bool = Field(False, description="whether the classes have an order, such as age bins")

    @property
    def width(self) -> int:
        """How many columns the head takes."""
        return 1 if self.values in SINGLE else len(self.classes)

    @property
    def merged(self) -> tuple[str, ...]:
        """The different classes, in order."""
        return tuple(dict.fromkeys(self.classes))

    @model_validator(mode="after")
    def _consistent(self) -> "TaskDescription":
        if self.values in SINGLE and len(self.classes) != 2:
            raise ValueError(f"values = {self.values!r} is for two classes; there are {len(self.classes)}")
        if len(self.merged) < 2 or not all(self.classes):
            raise ValueError("classes need two or more different names")
        if self.columns and (self.columns[0] < 0 or self.columns[1] - self.columns[0] != self.width):
            raise ValueError(
                f"columns = {list(self.columns)} are {self.columns[1] - self.columns[0]} columns, but the head has "
                f"{self.width}: one a class ({len(self.classes)} are named), or one for a logit or probability"
            )
        return self


class InputDescription(_Part):
    """What is done to a picture. Value of a pixel: (byte / divide_by − mean) / std, in the network's colour order."""

    size: int = Field(224, ge=8, le=1024, description="side of the square picture, in pixels")
    resize: int | None = Field(
        None, ge=8, le=2048,
        description="length of the shorter side before the centre is cut out; default: the whole picture becomes the "
        "square, whatever its shape",
    )  # fmt: skip
    filter: Literal["bilinear", "bicubic", "box", "lanczos", "nearest"] = Field(
        "bilinear", description="how pixels are averaged when the size changes (Pillow's, antialiased)"
    )
    align: Literal["dlib"] | None = Field(
        None, description="dlib's face chip: turned upright by five landmarks (needs fairaudit[dlib])"
    )
    landmarks: str = Field(
        "shape_predictor_5_face_landmarks.dat",
        description="of align: dlib's file, looked for beside the model, in $TORCH_HOME and its hub/checkpoints",
    )
    padding: float = Field(0.25, ge=0, le=2, description="of align: room around the face, as a share of its size")
    divide_by: float = Field(255.0, gt=0, description="255 gives values in 0…1, 1 leaves them in 0…255")
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    colour: Literal["RGB", "BGR", "grey"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"

    @property
    def channels(self) -> int:
        """How many channels the network sees."""
        return 1 if self.colour == "grey" else 3

    @model_validator(mode="after")
    def _consistent(self) -> "InputDescription":
        for name in ("mean", "std"):
            if len(getattr(self, name)) not in (1, self.channels):
                raise ValueError(f"{name} needs one value, or one for each of {self.channels} channels")
        if not all(value > 0 for value in self.std):
            raise ValueError("std must be above 0")
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f"resize = {self.resize} is smaller than size = {self.size}, which is cut out of it")
        if self.align and self.resize is not None:
            raise ValueError("align gives the square picture itself: leave resize out")
        unread = {"landmarks", "padding"} & self.model_fields_set
        if unread and not self.align:
            raise ValueError(f"{' and '.join(sorted(unread))}: read with align = 'dlib' only")
        if self.align and "filter" in self.model_fields_set:
            raise ValueError("filter is not read with align, because dlib resizes in its own way: leave it out")
        return self


_UNREAD_BY_FUNCTIONS = {"divide_by", "mean", "std", "colour", "layout"}


class ModelDescription(_Part):
    """A whole model.toml."""

    name: str = Field("", description="what reports call the model")
    source: str = Field("", description="who made it, and where it is from")
    format: Literal["state-dict", "onnx", "torchscript", "export", "module", "function"] | None = Field(
        None, description="default: what the file is"
    )
    network: str | None = Field(
        None, description="of a state dict: a torchvision classifier, a backbone of fairaudit, or timm:<name>"
    )
    head: tuple[str, ...] = Field(
        (),
        description="of a state dict: the layers in place of the network's last one, such as "
        '["linear 256", "relu", "dropout", "linear"]',
    )
    prefix: str = Field("", description="of a state dict: what every name of a tensor starts with, such as 'model.'")
    flip_test: bool = Field(False, description="average with the mirrored face")
    input: InputDescription = InputDescription()
    tasks: Annotated[dict[str, TaskDescription], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _consistent(self) -> "ModelDescription":
        if self.format == "function" and (unread := _UNREAD_BY_FUNCTIONS & self.input.model_fields_set):
            raise ValueError(
                "a function gets uint8 RGB faces and prepares them itself: leave "
                f"input.{', input.'.join(sorted(unread))} out"
            )
        return self


def find_description(given: str | Path | None, model: str) -> tuple[ModelDescription, Path | None]:
    """Return the description of a model file (or "module:function") and where it was read.

    `given` is a file or the name of a preset; without it, <file>.toml or model.toml beside the model is read. Raises
    UsageError where there is none, or it does not say what is needed.
    """
    if given is not None:
        path = Path(given)
        preset = resource_dir("presets") / f"{path.name.removesuffix('.toml')}.toml"
        if not path.exists() and len(path.parts) == 1 and preset.exists():
            path = preset
        elif not path.exists():
            near = suggestion(str(given), presets())
            raise UsageError(f"--model-spec {given}: no such file or preset{near} (presets: {', '.join(presets())})")
        return load_description(path), path
    beside = Path(model)
    for path in (beside.with_suffix(".toml"), beside.parent / "model.toml") if beside.is_file() else ():
        if path.is_file() and path != beside:
            return load_description(path), path
    raise UsageError(
        f"{model}: what are its classes, and how does it look at a picture? Write model.toml beside it, or give "
        f"--model-spec FILE or a preset ({', '.join(presets())}); docs/your-own-model.md shows how"
    )


def load_description(path: Path) -> ModelDescription:
    """Read a model.toml; UsageError in plain words for anything that is wrong with it."""
    try:
        if path.stat().st_size > LARGEST_TOML:
            raise UsageError(f"{path} is larger than any description of a model ({path.stat().st_size:,} bytes)")
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from None
    return parse_description(raw, str(path))


def parse_description(raw: Mapping[str, Any], where: str = "model description") -> ModelDescription:
    """Turn a mapping into a description; UsageError as in `load_description`."""
    try:
        return ModelDescription.model_validate(raw)
    except ValidationError as error:
        raise UsageError(plain_errors(error, where, ModelDescription)) from None


def presets() -> list[str]:
    """Return the names of the descriptions that come with fairaudit."""
    return sorted(path.stem for path in resource_dir("presets").glob("*.toml"))
