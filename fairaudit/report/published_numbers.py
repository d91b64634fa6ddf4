"""Figures that others have published, each with its source, for the data set, head and classes that it was measured on.

Only figures with a source that anybody can look up stand here; a range without one is not among them.
"""

from dataclasses import dataclass

GENDER = frozenset(("Male", "Female"))
RACE_7 = frozenset(("White", "Black", "Latino_Hispanic", "East Asian", "Southeast Asian", "Indian", "Middle Eastern"))
RACE_5 = frozenset(("White", "Black", "Asian", "Indian", "Others"))
AGE_9 = frozenset(("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+"))


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published figure: of which data set, head and classes, what it is, who measured it on which faces.

    value: a share in 0…1, or years for `mae_years`. class_: the class of a recall, "" for the whole head. n: how many
    faces the source says it was measured on, None where it does not. classes: None where they do not matter.
    """

    data_set: str
    task: str
    classes: frozenset[str] | None
    metric: str
    value: float
    model: str
    source: str
    faces: str
    n: int | None = None
    class_: str = ""


_ISSUE_28 = "github.com/dchen236/FairFace, issue 28 (2023)"
_ISSUE_7 = "github.com/dchen236/FairFace, issue 7 (2020)"
_CLIP = "huggingface.co/syntheticbot/clip-face-attribute-classifier, its model card"
_VIT = "huggingface.co/dima806/fairface_age_image_detection, its model card"
_BELCAR = "Belcar, Grd & Tomičić, Informatics 9(1):18 (2022)"
_PAPLHAM = "Paplhám & Franc, CVPR 2024 (arXiv 2307.04570)"
_QWYT = "github.com/qwyt/AgeGenderClassifier, its README"
_VALIDATION = "FairFace’s validation set"
_OWN_SPLIT = "a split of UTKFace of their own"
_PER_RACE = {
    "White": 0.7554,
    "Black": 0.8605,
    "Latino_Hispanic": 0.5933,
    "East Asian": 0.7800,
    "Southeast Asian": 0.6226,
    "Indian": 0.7302,
    "Middle Eastern": 0.6179,
}


def _fairface(
    task: str, classes: frozenset[str], value: float, model: str, source: str, n: int | None = None
) -> Published:
    return Published(
        data_set="fairface",
        task=task,
        classes=classes,
        metric="accuracy",
        value=value,
        model=model,
        source=source,
        faces=_VALIDATION,
        n=n,
    )


def _utkface(
    task: str, classes: frozenset[str] | None, metric: str, value: float, model: str, source: str
) -> Published:
    return Published(
        data_set="utkface",
        task=task,
        classes=classes,
        metric=metric,
        value=value,
        model=model,
        source=source,
        faces=_OWN_SPLIT,
    )


PUBLISHED: tuple[Published, ...] = (
    _fairface("gender", GENDER, 0.9638, "CLIP ViT-L/14, fine-tuned", _CLIP),
    _fairface("race", RACE_7, 8511 / 10954, "the authors’ ResNet-34, aligned crops", _ISSUE_28, 10954),
    _fairface("race", RACE_7, 0.7322, "CLIP ViT-L/14, fine-tuned", _CLIP),
    _fairface("race", RACE_7, 0.7140, "the authors’ ResNet-34, a user’s run", _ISSUE_7),
    _fairface("race", RACE_7, 0.6174, "CNN on the middle of the face", _BELCAR),
    _fairface("age", AGE_9, 0.5917, "CLIP ViT-L/14, fine-tuned", _CLIP),
    _fairface("age", AGE_9, 0.59, "ViT-base", _VIT),
    *(
        Published(
            data_set="fairface",
            task="race",
            classes=RACE_7,
            metric="recall",
            class_=race,
            value=value,
            model="the authors’ ResNet-34, a user’s run",
            source=_ISSUE_7,
            faces=_VALIDATION,
        )
        for race, value in _PER_RACE.items()
    ),
    _utkface("gender", GENDER, "accuracy", 0.939, "MobileNetV3 small", _QWYT),
    _utkface("race", RACE_5, "accuracy", 0.8034, "CNN on the middle of the face", _BELCAR),
    _utkface("age", None, "mae_years", 4.38, "ResNet-50, cross-entropy", _PAPLHAM),
    _utkface("age", None, "mae_years", 4.72, "ResNet-50, regression", _PAPLHAM),
    _utkface("age", None, "mae_years", 3.87, "FaRL with an MLP, best of the paper", _PAPLHAM),
)
