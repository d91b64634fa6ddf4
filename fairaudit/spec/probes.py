"""The tables [attribution], [robustness] and [masking]: faces shown again, to see what a model goes by."""

from typing import Literal

from pydantic import Field, model_validator

from fairaudit.spec.part import SpecPart


class AttributionSpec(SpecPart):
    """Where a model looks: how many faces, by which methods, and what is compared between subgroups."""

    faces_per_head: int = Field(48, ge=0, description="faces a head, drawn evenly over the first axis; 0: none")
    methods: tuple[str, ...] = Field(
        ("integrated-gradients",),
        min_length=1,
        description="of `fairaudit list attributions`; the first one gives the maps",
    )
    tasks: tuple[str, ...] = Field((), description="heads that are explained; default: all, each for its own work")
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
        idle = [task for task in self.target if self.tasks and task not in self.tasks]
        if idle:
            raise ValueError(f"target names {', '.join(idle)}, which tasks leaves out: name it there, too, or drop it")
        for name in ("methods", "tasks", "baselines", "contrasts"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names the same thing twice")
        return self


class RobustnessSpec(SpecPart):
    """Whose accuracy falls when pictures get worse: asked only where this table stands, since it predicts 26 times."""

    perturbations: tuple[str, ...] = Field(
        ("blur", "noise", "jpeg", "darkness", "low-contrast"), min_length=1, description="each at five strengths"
    )
    faces: int = Field(1000, ge=0, description="at most so many, drawn evenly over the first axis; 0: all of the split")
    subgroups: tuple[str, ...] | None = Field(
        None, description="axes; default: audit.subgroups, else each attribute by itself"
    )


class MaskingSpec(SpecPart):
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
