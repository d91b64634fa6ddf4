"""Wrong classes, colours and preprocessing of a described model are said; right ones are not doubted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_faces import make_faces
from torch import Tensor, nn

from fairaudit.audit import run_audit
from fairaudit.data.predictions import read_predictions
from fairaudit.data.tables import FaceTable
from fairaudit.models.inference import predict
from fairaudit.models.sanity import look_twice
from fairaudit.models.wrapped.opening import open_model

torch.set_num_threads(1)
TEXT = """
[input]
size = 32
colour = "RGB"
[tasks.gender]
classes = ["Male", "Female"]
[tasks.race]
classes = ["A", "B", "C"]
"""


class Good(nn.Module):
    """Knows how the pictures were made: red is Male, green Female; the upper half's blue is the race.

    One face in eight or so gets another answer, by its noise.
    """

    def __init__(self, scale: float = 40.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        red, green = x[:, 0].mean((1, 2)), x[:, 1].mean((1, 2))
        blue = x[:, 2, :16].mean((1, 2)) * 255
        noise = (x[:, 2, 20, 20] * 255 % 8 < 1).float() * 2 - 1
        gender = torch.stack([red, green], 1) * -noise[:, None]
        race = -(((blue[:, None] - torch.tensor([30.0, 120.0, 210.0])) / 255) ** 2) * 10
        return torch.cat([gender, race], 1) * self.scale


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> FaceTable:
    """Two hundred pictures."""
    return make_faces(tmp_path_factory.mktemp("faces"), count=200)


@pytest.fixture
def doubts(faces: FaceTable, tmp_path: Path) -> Callable[..., list[str]]:
    """Return the function that wraps a module under a description and says what looks wrong."""

    def ask(text: str = TEXT, module: nn.Module | None = None, table: FaceTable = faces) -> list[str]:
        (tmp_path / "model.toml").write_text(text)
        torch.save(module or Good(), tmp_path / "m.pt")
        model = open_model(tmp_path / "m.pt", trust_code=True).in_order(table.tasks)
        device = torch.device("cpu")
        return look_twice(model, table, model.on(device, torch.float32, flip=False), device)[0]

    return ask


def test_a_right_description_is_not_doubted(doubts: Callable[..., list[str]]) -> None:
    """No warning where everything is as described."""
    assert doubts() == []


def test_classes_in_another_order(doubts: Callable[..., list[str]]) -> None:
    """The order that fits better is named, for two classes and for three."""
    (two,) = doubts(TEXT.replace('["Male", "Female"]', '["Female", "Male"]'))[1:]
    assert "'Male' as 'Female', 'Female' as 'Male'" in two and two.startswith("gender: the model is right for")
    said = doubts(TEXT.replace('["A", "B", "C"]', '["B", "C", "A"]'))
    assert any("classes read in another order" in text and "'A' as 'C'" in text for text in said)
    assert not any(text.startswith("gender") for text in said)


def test_colours_swapped(doubts: Callable[..., list[str]]) -> None:
    """A model that wants RGB and gets BGR: right more often with red and blue swapped."""
    said = doubts(TEXT.replace('"RGB"', '"BGR"'))
    assert any(text.startswith("race") and "and with red and blue swapped for 100.0 %" in text for text in said)


def test_colours_and_classes_both_wrong(doubts: Callable[..., list[str]]) -> None:
    """The colours are told in the order of classes that fits."""
    said = doubts(TEXT.replace('"RGB"', '"BGR"').replace('["A", "B", "C"]', '["B", "C", "A"]'))
    assert any("with red and blue swapped and with its classes read in another order" in text for text in said), said


def test_no_better_than_the_most_frequent_label(doubts: Callable[..., list[str]]) -> None:
    """A model that answers by noise, or always the same."""

    class Noise(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x[:, 2, 18:20, 9], x[:, 2, 22:25, 7]], 1)

    import sys

    setattr(sys.modules[__name__], "Noise", Noise)  # noqa: B010 (pickle looks for it there)
    Noise.__qualname__ = "Noise"
    said = doubts(module=Noise())
    assert [text.split(":")[0] for text in said if "no better than the answer" in text] == ["gender", "race"]


def test_probabilities_taken_for_logits(doubts: Callable[..., list[str]]) -> None:
    """Logits that never lie more than 1 apart are doubted."""
    assert any("values = 'probabilities' meant" in text for text in doubts(module=Good(0.5)))


def test_few_labels_say_nothing(doubts: Callable[..., list[str]], faces: FaceTable) -> None:
    """Under thirty labelled faces nothing is said, and without labels nothing is looked at."""
    few = replace(faces, frame=faces.frame.iloc[:20].reset_index(drop=True))
    assert doubts(TEXT.replace('["Male", "Female"]', '["Female", "Male"]'), table=few) == []
    none = replace(faces, frame=faces.frame.drop(columns=["gender", "race"]), tasks={})
    assert doubts(table=none) == []


def test_false_alarms_are_rare(faces: FaceTable) -> None:
    """Of 300 models that are right by chance, at most the stated share hears of another order or other colours."""
    from fairaudit.models.sanity import ALPHA, _Answers, _doubts

    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(300):
        labels, plain, swapped = rng.integers(0, 7, (3, 400))
        answers = _Answers(labels=labels, plain=plain, swapped=swapped, spread=np.full(400, 5.0))
        said, _ = _doubts("race", tuple("abcdefg"), answers, ALPHA / 3)
        alarms += any("another order" in text or "swapped" in text for text in said)
    assert alarms <= 9  # the 99.8 % point of a binomial count at 1 %


def test_the_report_says_it(faces: FaceTable, tmp_path: Path) -> None:
    """What looks wrong is said while predicting, stands in the file's meta and first among the audit's warnings."""
    (tmp_path / "model.toml").write_text(TEXT.replace('["Male", "Female"]', '["Female", "Male"]'))
    torch.save(Good(), tmp_path / "m.pt")
    heard: list[str] = []
    model = open_model(tmp_path / "m.pt", trust_code=True)
    path = predict(
        model, faces, tmp_path / "p.parquet", progress=lambda stage, done, total, note="": heard.append(note)
    )
    table = read_predictions(path)
    result = run_audit(table, tasks=["gender"], by=["hair"])
    assert any("another order" in text for text in heard)
    assert result.meta["warnings"][: len(table.meta["warnings"])] == table.meta["warnings"]
    assert table.meta["sample"]["gender"]["n"] == 200
    assert isinstance(result.to_frame(), pd.DataFrame)
