"""The tables [model] and [training]: the network, and how it is taught."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from fairaudit.spec.part import SpecPart


class ForestSpec(SpecPart):
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
Zooms = Annotated[tuple[Annotated[float, Field(ge=0.5, le=2)], ...], Field(max_length=8)]


class HeadSpec(SpecPart):
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


class ModelSpec(SpecPart):
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


class AugmentationSpec(SpecPart):
    """How far training images are changed, each by its own draw: the largest change of each kind, 0 for none."""

    mirror: bool = Field(True, description="mirror every second image")
    rotate: float = Field(10.0, ge=0, le=180, description="degrees either way")
    scale: float = Field(0.12, ge=0, lt=1, description="share of the size, larger or smaller")
    shift: float = Field(0.04, ge=0, lt=1, description="share of the width and height, any direction")
    brightness: float = Field(0.25, ge=0, lt=1, description="share, brighter or darker")
    contrast: float = Field(0.25, ge=0, lt=1, description="share, more or less")
    grayscale: float = Field(0.0, ge=0, le=1, description="share of the images that lose their colour")


class TrainingSpec(SpecPart):
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
    zoom_test: Zooms = Field(
        (),
        description="average each prediction with those of the face in these sizes (0.93: 7 % smaller); every one of "
        "them takes as long as the prediction itself",
    )
    device: str = "auto"
    compile: bool = Field(False, description="torch.compile for the steps of fine-tuning; gains nothing on a CPU")
    deterministic: bool = Field(False, description="the same seed gives the same model on a GPU, too; slower there")
    tensorboard: bool = Field(False, description="curves for TensorBoard, in <checkpoint>.tensorboard")
