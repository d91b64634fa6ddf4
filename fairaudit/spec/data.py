"""The tables [data] and [split]: which faces are read, from where, and how they are divided."""

from typing import Literal

from pydantic import Field, model_validator

from fairaudit.spec.part import SpecPart


class ColumnsSpec(SpecPart):
    """Which columns of a manifest or predictions table mean what; every other column is an attribute."""

    image: str = "image"
    subject_id: str | None = None
    weight: str | None = None
    rename: dict[str, str] = Field(default_factory=dict, description="our name = the table's name")


class SourceSpec(SpecPart):
    """One set of faces: how it is read, and in which folder below `--data` it lies."""

    dataset: str
    folder: str = "."
    manifest: str | None = Field(None, description="the CSV or Parquet file of a manifest or FairFace set")
    columns: ColumnsSpec = ColumnsSpec()
    values: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="per attribute: the table's value = our value ({gender: {Man: Male}})"
    )
    schemes: dict[str, str] = Field(default_factory=dict, description="per attribute: the scheme its labels are in")
    class_task: str = Field("label", description="class folders: the attribute that the folder name gives")
    attributes: tuple[str, ...] | None = Field(None, description="columns to keep as attributes; default: all")
    label_source: str | None = Field(None, description="who made the labels, for the report's first page")


class SyntheticSpec(SpecPart):
    """Made-up faces: how many, and which bias is planted for which subgroup."""

    n: int = Field(2400, ge=20)
    image_size: int = Field(64, ge=32, le=512)
    biases: tuple["PlantedBias", ...] = ()


class PlantedBias(SpecPart):
    """One planted bias, for the faces of one subgroup (`where`), of one strength in 0…1."""

    kind: Literal["under_representation", "label_noise", "low_quality", "spurious_cue"]
    where: dict[str, str]
    strength: float = Field(gt=0, le=1)
    task: str = Field("gender", description="the task whose labels or cue are touched")


class BalanceSpec(SpecPart):
    """A balanced subset: at most `per_class` training faces of each class of `task`."""

    task: str
    per_class: int = Field(ge=1)


class DataSpec(SourceSpec):
    """Where faces come from. `dataset = "merged"` reads every entry of `sources` and joins them."""

    sources: tuple[SourceSpec, ...] = ()
    target_schemes: dict[str, str] = Field(
        default_factory=dict, description="per head: the scheme its classes are in; labels it cannot express are masked"
    )
    duplicates: Literal["test-only", "keep", "drop", "first"] = Field(
        "test-only",
        description="byte-identical faces with contradicting labels: out of training but counted in test (test-only), "
        "kept everywhere, dropped everywhere, or only the first one kept",
    )
    balance: BalanceSpec | None = None
    limit: int | None = Field(None, ge=1, description="read at most this many faces, drawn with the seed")
    synthetic: SyntheticSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "DataSpec":
        if (self.dataset == "merged") != bool(self.sources):
            raise ValueError("dataset = 'merged' and [[data.sources]] go together: give both or neither")
        return self


class SplitSpec(SpecPart):
    """Shares of faces for training, validation and test; `official` keeps a data set's own test split."""

    train: float = Field(0.8, gt=0, lt=1)
    val: float = Field(0.1, gt=0, lt=1)
    stratify: tuple[str, ...] | None = Field(None, description="attributes to stratify by; default: every task")
    official: bool = Field(False, description="the data set's own validation split becomes the test split")

    @model_validator(mode="after")
    def _leaves_a_test_set(self) -> "SplitSpec":
        if self.train + self.val >= 1:
            raise ValueError(f"train + val = {self.train + self.val:g} leaves nothing for test; they must sum below 1")
        return self
