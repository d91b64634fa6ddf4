"""The audit spec: a TOML file becomes frozen pydantic models; an unknown key is an error with its path.

A spec says what is to be done; it holds no path outside its own folder, except names of folders below `--data`.
"""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator, model_validator

from fairaudit import subgroups
from fairaudit.errors import UsageError
from fairaudit.policies import parse_policies
from fairaudit.population import check_shares, read_population
from fairaudit.registry import suggestion


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ColumnsSpec(_Part):
    """Which columns of a manifest or predictions table mean what; every other column is an attribute."""

    image: str = "image"
    subject_id: str | None = None
    weight: str | None = None
    rename: dict[str, str] = Field(default_factory=dict, description="our name = the table's name")


class SourceSpec(_Part):
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


class SyntheticSpec(_Part):
    """Made-up faces: how many, and which bias is planted for which subgroup."""

    n: int = Field(2400, ge=20)
    image_size: int = Field(64, ge=32, le=512)
    biases: tuple["PlantedBias", ...] = ()


class PlantedBias(_Part):
    """One planted bias, for the faces of one subgroup (`where`), of one strength in 0…1."""

    kind: Literal["under_representation", "label_noise", "low_quality", "spurious_cue"]
    where: dict[str, str]
    strength: float = Field(gt=0, le=1)
    task: str = Field("gender", description="the task whose labels or cue are touched")


class BalanceSpec(_Part):
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


class SplitSpec(_Part):
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


class ForestSpec(_Part):
    """A classical baseline (backbone pca-random-forest or pca-xgboost): trees on principal components of the pixels."""

    components: int = Field(100, ge=1, le=2048, description="principal components of the flattened pixels")
    trees: int = Field(200, ge=1, le=5000, description="trees a head; of pca-xgboost: rounds, a tree a class each")
    depth: int | None = Field(
        None, ge=1, le=64, description="deepest way down a tree; default: unlimited, of pca-xgboost 6"
    )
    min_leaf: int = Field(3, ge=1, description="fewest training faces in a leaf (pca-random-forest)")
    learning_rate: float = Field(0.1, gt=0, le=1, description="share of each tree's answer (pca-xgboost)")


AlignFrom = Literal["utkface", "fairface", "avatars"] | None
Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]
Width = Annotated[int, Field(ge=1, le=8192)]
Widths = Annotated[tuple[Width, ...], Field(max_length=8)]


class HeadSpec(_Part):
    """One task's head: layers of its own after the shared ones, and what its outputs mean."""

    kind: Literal["softmax", "coral", "cumulative"] = Field(
        "softmax",
        description="softmax over the classes; for classes that have an order, coral (one score and a threshold before "
        "each further class, taught as binary tasks) or cumulative (the same, taught by its likelihood: ordered logit)",
    )
    hidden: Widths = Field((), description="widths of the head's own layers")
    activation: Activation | None = Field(None, description="of its own layers; default: model.activation")
    dropout: float | None = Field(None, ge=0, lt=1, description="after each of its own layers; default: model.dropout")
    years: Literal["none", "l1", "huber"] = Field(
        "none", description="of the head age: the age in years is predicted beside the bins, taught by this loss"
    )


def one_or_more(given: object) -> object:
    """Return the width, or widths, of shared layers as given; ValueError (for pydantic) where they are none."""
    several = isinstance(given, list | tuple)
    found = list(given) if isinstance(given, list | tuple) else [given]
    good = all(type(width) is int and 0 < width <= 8192 for width in found) and len(found) <= 8
    if not good and (several or type(given) is not int or given != 0):
        raise ValueError("give one width (0: no shared layer, at most 8192), or a list of at most 8 widths above 0")
    return given


class ModelSpec(_Part):
    """The network: backbone, shared layers and one head a task."""

    backbone: str = "mobilenet_v2"
    weights: str | None = Field(
        None, description="'imagenet', 'none', or the name of a weights file; default: the backbone's usual ones"
    )
    weights_match: Literal["strict", "partial"] = Field(
        "strict", description="partial: tensors of the weights file that fit are taken, at least half of the parameters"
    )
    image_size: int | None = Field(None, ge=32, le=1024, description="pixels; default: the backbone's own")
    color: Literal["rgb", "grey", "bgr"] | None = Field(
        None, description="what the network is shown: colour in this order, or luminance; default: the backbone's own"
    )
    widths: Widths = Field((), description="simple_cnn: channels of each stage; default: 32, 64, 128, 128")
    pooling: Literal["average", "average+learned"] = Field(
        "average",
        description="how maps become one vector: their average, or that and the learned pooling of a network that has "
        "one (mobilefacenet), side by side",
    )
    align_from: AlignFrom = Field(
        None,
        description="how faces lie in the pictures: they are moved and scaled to where the backbone's own faces lay in "
        "training (mobilefacenet: ArcFace's alignment); default: the picture as it is",
    )
    shared: int | tuple[int, ...] = Field(
        256, description="width of the shared layer, 0 for none, or a list of widths for several"
    )
    activation: Activation = Field("relu", description="of the shared layers")
    dropout: float = Field(0.3, ge=0, lt=1, description="after each shared layer")
    heads: dict[str, HeadSpec] = Field(default_factory=dict, description="per task, where a head is not the plain one")
    trainable_blocks: int | None = Field(
        None, ge=0, description="how many upper blocks fine-tuning trains; default: the backbone's own"
    )
    forest: ForestSpec | None = Field(None, description="of backbone pca-random-forest and pca-xgboost only")

    _one_or_more = field_validator("shared", mode="before")(one_or_more)

    @property
    def shared_widths(self) -> tuple[int, ...]:
        """The widths of the shared layers."""
        return (self.shared,) if isinstance(self.shared, int) and self.shared else tuple(self.shared or ())


class AugmentationSpec(_Part):
    """How far training images are changed, each by its own draw: the largest change of each kind, 0 for none."""

    mirror: bool = Field(True, description="mirror every second image")
    rotate: float = Field(10.0, ge=0, le=180, description="degrees either way")
    scale: float = Field(0.12, ge=0, lt=1, description="share of the size, larger or smaller")
    shift: float = Field(0.04, ge=0, lt=1, description="share of the width and height, any direction")
    brightness: float = Field(0.25, ge=0, lt=1, description="share, brighter or darker")
    contrast: float = Field(0.25, ge=0, lt=1, description="share, more or less")
    grayscale: float = Field(0.0, ge=0, le=1, description="share of the images that lose their colour")


class TrainingSpec(_Part):
    """Heads first on the frozen backbone's cached embeddings, then fine-tuning of the upper blocks on cached maps."""

    head_epochs: int = Field(20, ge=0)
    epochs: int = Field(8, ge=0, description="epochs of fine-tuning")
    batch_size: int = Field(128, ge=2)
    head_learning_rate: float = Field(2e-3, gt=0)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)
    warm_up: float = Field(0.15, gt=0, lt=1, description="share of the steps in which the learning rate rises")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label given to all classes alike")
    ordinal_smoothing: float = Field(
        0.0, ge=0, le=5, description="for ordered classes: the width, in classes, over which a label is spread; 0: none"
    )
    age_smoothing: float = Field(
        0.0,
        ge=0,
        le=30,
        description="for the head age, where ages in years are known: the standard deviation, in "
        "years, over which an age is spread into the bins instead of its label; 0: none",
    )
    task_weights: dict[str, float] = Field(default_factory=dict, description="share of a task in the loss; default 1")
    batch_norm: Literal["train", "frozen", "fold"] = Field(
        "train",
        description="batch norms of the upper blocks in fine-tuning: trained; frozen; or folded into their "
        "convolutions, whose weights train on (fastest)",
    )
    augmentation: AugmentationSpec = AugmentationSpec()
    mixup: float = Field(0.0, ge=0, description="Beta parameter of mixup; 0 for none")
    cutmix: float = Field(
        0.0,
        ge=0,
        description="Beta parameter of cutmix, on images and maps; 0: none; with mixup, either of them a batch",
    )
    augmented_views: int = Field(4, ge=1, description="versions of each face that fine-tuning draws from (1: as it is)")
    class_weights: bool = False
    patience: int = Field(5, ge=1, description="epochs of a stage without improvement before it stops early")
    select: Literal["overall", "worst-subgroup"] = "overall"
    select_by: str | None = Field(None, description="the axis whose worst subgroup is meant")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    flip_test: bool = Field(False, description="average each prediction with that of the mirrored face")
    device: str = "auto"
    deterministic: bool = Field(False, description="the same seed gives the same model on a GPU, too; slower there")
    tensorboard: bool = Field(False, description="curves for TensorBoard, in <checkpoint>.tensorboard")


class PlanSpec(_Part):
    """What is asked before the test set is looked at; `fairaudit plan` freezes it."""

    hypotheses: tuple[str, ...] = Field(
        (), description="written like policies; reported as supported, contradicted or inconclusive"
    )
    reference: dict[str, str] = Field(
        default_factory=dict, description="per axis: the subgroup meant by against=reference"
    )
    target: dict[str, str] = Field(
        default_factory=dict, description="per axis: the subgroup to be helped, meant by subgroup=target"
    )

    @field_validator("hypotheses")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return _policies(texts)


def _policies(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the canonical texts of policies; ValueError (for pydantic) where one cannot be read or occurs twice."""
    try:
        return tuple(str(policy) for policy in parse_policies(texts))
    except UsageError as error:
        raise ValueError(str(error)) from None


_Share = Annotated[float, Field(ge=0, lt=1)]
_Flips = tuple[tuple[Annotated[float, Field(ge=0, le=1)], ...], ...]


class LabelNoiseSpec(_Part):
    """How wrong labels may be. Without any rate only a bound over `grid` is computed, for each axis's headline gap.

    A rate is the share of labels that are wrong. Where several apply (of the task, a subgroup, a class), the largest
    counts; an intersection takes the rate of its parts unless it is named itself.
    """

    rate: _Share | None = Field(None, description="share of wrong labels, in every subgroup and class")
    subgroups: dict[str, _Share] = Field(default_factory=dict, description="the same per subgroup: {Black = 0.1}")
    classes: dict[str, _Share] = Field(default_factory=dict, description="the same per class: {'70+' = 0.15}")
    matrix: dict[str, _Flips] = Field(
        default_factory=dict,
        description="per task: P(label | truth), a row a true class in the task's order; each row sums to 1",
    )
    membership: dict[str, _Share | _Flips] = Field(
        default_factory=dict,
        description="per axis: share of faces in a wrong subgroup (spread evenly), or P(labelled | true subgroup)",
    )
    grid: tuple[Annotated[float, Field(gt=0, lt=0.5)], ...] = (0.01, 0.02, 0.05, 0.10)

    @field_validator("matrix", "membership")
    @classmethod
    def _rows_sum_to_one(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name, rows in given.items():
            if isinstance(rows, float):
                continue
            if any(len(row) != len(rows) for row in rows) or any(abs(sum(row) - 1) > 1e-6 for row in rows):
                raise ValueError(f"{name}: a square matrix is needed, each row summing to 1")
        return given

    @property
    def stated(self) -> bool:
        """Whether any rate of wrong labels is stated."""
        return bool(self.rate is not None or self.subgroups or self.classes)


class SelectionSpec(_Part):
    """The output that selects people: impact ratios are about it, and about no label head."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    task: str
    class_: str = Field(alias="class", description="the class that means: selected")


class AuditSpec(_Part):
    """What is audited, and by which subgroups."""

    subgroups: tuple[str, ...] | None = Field(None, description="axes such as 'race' or 'race:gender'")
    min_group_size: int = Field(30, ge=1)
    confidence: float = Field(0.95, gt=0.5, lt=1)
    interval: Literal["wilson", "clopper-pearson"] = Field(
        "wilson",
        description="limits of a proportion: wilson covers the confidence on average, clopper-pearson at least",
    )
    draws: int = Field(2000, ge=100, description="draws of the bootstrap where no closed form exists, and of the null")
    multiplicity: Literal["max-t", "benjamini-hochberg"] = Field(
        "max-t",
        description="how p-values of findings are adjusted: max-t bounds the chance of any false finding in a family, "
        "benjamini-hochberg the expected share of false ones among those found",
    )
    policies: tuple[str, ...] = Field((), description="limits such as 'difference(recall, race:gender) <= 0.05'")
    plan: PlanSpec = PlanSpec()
    exploratory: bool = Field(False, description="discover contrasts on one half of the faces, confirm on the other")
    population: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="per axis: the share of each subgroup where the model is to be used; or, in a TOML file, the name "
        "of a CSV of cells beside it",
    )
    adjust_for: tuple[str, ...] = Field(
        (),
        description="covariates at whose common mix gaps are compared, too: columns such as 'age' or 'brightness' "
        "(numbers are put into quantile bins), and 'label_mix', the task's own labels",
    )
    adjust_to: str = Field(
        "pooled",
        description="the mix of covariates: 'pooled' (all faces of known subgroup) or 'attribute=value' (those faces)",
    )
    label_noise: LabelNoiseSpec = LabelNoiseSpec()
    metrics: tuple[str | Callable[..., Any], ...] = Field(
        (),
        description="further metrics f(y_true, y_pred) as 'module:function': installed, or in the current folder; in "
        "Python also the function itself",
    )
    selection: SelectionSpec | None = Field(
        None, description="where the audited output is a selection: {task = 'hired', class = 'yes'}"
    )

    @field_validator("policies")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return _policies(texts)

    @field_serializer("metrics")
    def _named(self, metrics: tuple[str | Callable[..., Any], ...]) -> list[str]:
        return [m if isinstance(m, str) else f"{m.__module__}:{getattr(m, '__qualname__', '?')}" for m in metrics]

    @field_validator("population")
    @classmethod
    def _shares(cls, population: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        try:
            for by, shares in population.items():
                check_shares(by, shares)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return population

    @field_validator("subgroups")
    @classmethod
    def _axes(cls, axes: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if axes is not None and len(set(axes)) != len(axes):
            raise ValueError("an axis is named twice")
        return axes


class MitigationSpec(_Part):
    """Mitigated models to train beside the baseline."""

    method: str
    by: str = Field(description="the axis whose subgroups × the task's classes are reweighed")
    tasks: tuple[str, ...] | None = Field(None, description="heads that are mitigated; default: all that `by` allows")
    cap: float = Field(10.0, gt=1, description="largest weight of a face")


class MitigateSpec(_Part):
    """What `fairaudit mitigate` runs: methods × seeds on cached embeddings, compared with plainly trained heads."""

    methods: tuple[str, ...] = Field((), description="default: every method that the head and the axis allow")
    by: str | None = Field(
        None, description="the axis whose subgroups are to be treated alike; default: the audit's first"
    )
    tasks: tuple[str, ...] | None = Field(
        None, description="heads; default: all whose label the axis does not determine"
    )
    seeds: int = Field(5, ge=1, description="repetitions; fewer than 3 recommend nothing")
    select: Literal["overall", "worst-subgroup", "pareto", "equalized-odds"] = Field(
        "worst-subgroup", description="what epochs and candidates of a method are chosen by, on validation faces"
    )
    margin: float = Field(0.02, gt=0, lt=0.5, description="loss of a subgroup's accuracy that still counts as no harm")
    cap: float = Field(10.0, gt=1, description="largest weight of a face")
    hidden: int = Field(0, ge=0, description="units of a hidden layer; 0: a linear head")
    dropout: float = Field(0.2, ge=0, lt=1, description="of the hidden layer")
    epochs: int = Field(20, ge=1)
    batch_size: int = Field(512, ge=2)
    learning_rate: float = Field(3e-3, gt=0)
    weight_decay: float = Field(0.02, ge=0)


_Said = Annotated[str, Field(max_length=2000)]


class ReportSpec(_Part):
    """What no figure can say: what the model is for, who answers for it, on what terms. Printed as it is written."""

    intended_use: _Said = Field("", description="what the model is meant to do, for whom and where")
    out_of_scope: tuple[_Said, ...] = Field((), description="uses that it is not meant for")
    provider: _Said = Field("", description="who provides the model")
    responsible: _Said = Field("", description="the person who answers for this report, and signs it")
    contact: _Said = Field("", description="where questions and complaints go")
    licence: _Said = Field("", description="the licence of the model, such as apache-2.0")
    data_set: _Said = Field("", description="what the audited faces are (utkface, fairface, …), where it is not known")
    data_terms: _Said = Field("", description="the terms under which the faces may be used")
    acknowledge_race_head: _Said = Field(
        "",
        description="'NAME, purpose': who has read the legal notice on heads that infer race, and what such a head is "
        "for",
    )

    @field_validator("acknowledge_race_head")
    @classmethod
    def _names_both(cls, text: str) -> str:
        try:
            return acknowledgement(text) if text else ""
        except UsageError as error:
            raise ValueError(str(error)) from None


def acknowledgement(text: str) -> str:
    """Return who acknowledges a head that infers race, and for what; UsageError unless both are named."""
    who, comma, purpose = (part.strip() for part in text.partition(","))
    if not (who and comma and purpose):
        raise UsageError(f"the acknowledgement {text!r} must be 'NAME, purpose': who has read the notice, and for what")
    return f"{who}, {purpose}"


class AttributionSpec(_Part):
    """Where a model looks: how many faces, by which methods, and what is compared between subgroups."""

    faces_per_head: int = Field(48, ge=0, description="faces a head, drawn evenly over the first axis; 0: none")
    methods: tuple[str, ...] = Field(
        ("integrated-gradients",),
        min_length=1,
        description="of `fairaudit list attributions`; the first one gives the maps",
    )
    steps: int = Field(50, ge=8, description="steps of path methods, samples of gradient SHAP")
    samples: int = Field(200, ge=20, description="masked faces of LIME and kernel SHAP")
    pieces: Literal["superpixels", "regions"] = Field("superpixels", description="what LIME and kernel SHAP hide")
    baselines: tuple[str, ...] = Field(
        ("blurred", "mean", "noise"),
        min_length=1,
        description="pictures that stand for 'absent': the first one for maps, all of them for contrasts; also black",
    )
    alignment: str = Field(
        "auto",
        description="where faces lie in their pictures: auto, utkface, fairface, arcface, avatars, landmarks, none",
    )
    landmarks: str = Field(
        "shape_predictor_5_face_landmarks.dat",
        description="of alignment = 'landmarks': dlib's file (needs fairaudit[dlib])",
    )
    contrasts: tuple[str, ...] = Field(
        (),
        description="axes whose subgroups are compared, region by region; for three baselines or more, twice the work",
    )
    faces_per_subgroup: int = Field(24, ge=2, description="of contrasts: faces drawn in each subgroup")
    target: dict[str, str] = Field(
        default_factory=dict, description="of contrasts: the class explained in every face; default: a head's commonest"
    )
    sanity: Literal["none", "quick", "full"] = Field(
        "quick",
        description="quick: infidelity, a randomized model on six faces, deletion and insertion on twelve; full: more "
        "faces, cascading and shuffled labels",
    )

    @model_validator(mode="after")
    def _black_is_never_alone(self) -> "AttributionSpec":
        if set(self.baselines) == {"black"}:
            raise ValueError(
                "baselines = ['black'] alone gives dark skin little attribution by construction; add 'blurred'"
            )
        if self.contrasts and len(set(self.baselines) - {"black"}) < 3:
            raise ValueError("contrasts need three baselines besides black: baselines = ['blurred', 'mean', 'noise']")
        for name in ("methods", "baselines", "contrasts"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names the same thing twice")
        return self


class RobustnessSpec(_Part):
    """Whose accuracy falls when pictures get worse: asked only where this table stands, since it predicts 26 times."""

    perturbations: tuple[str, ...] = Field(
        ("blur", "noise", "jpeg", "darkness", "low-contrast"), min_length=1, description="each at five strengths"
    )
    faces: int = Field(1000, ge=0, description="at most so many, drawn evenly over the first axis; 0: all of the split")
    subgroups: tuple[str, ...] | None = Field(
        None, description="axes; default: audit.subgroups, else each attribute by itself"
    )


class MaskingSpec(_Part):
    """Which region of the face is needed, by whom: asked only where this table stands, since it predicts 19 times."""

    regions: tuple[str, ...] | None = Field(
        None,
        description="regions to hide, each by itself, or boxes: 'box left top right bottom' in shares of the picture; "
        "default: all nine regions",
    )
    fills: tuple[str, ...] = Field(
        ("blur", "mean"),
        min_length=1,
        description="what is put there, at least two that must agree: blur (of what lies around), mean (colour of the "
        "data), noise",
    )
    faces: int = Field(1000, ge=0, description="at most so many, drawn evenly over the first axis; 0: all of the split")
    subgroups: tuple[str, ...] | None = Field(
        None, description="axes; default: audit.subgroups, else each attribute by itself"
    )
    alignment: str = Field(
        "auto", description="how faces lie in their pictures: auto (what the data set is known for), or a known name"
    )


class Spec(_Part):
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
