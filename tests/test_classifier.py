"""FaceClassifier, augmentation and the loss."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.models.augment import augment, augment_batch, draw
from fairaudit.models.backbones import build_backbone
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.losses import Target, loss_of, make_targets, soft_labels, softening_notes
from fairaudit.models.runtime import Clock, ahead, flow
from fairaudit.spec import AugmentationSpec, ModelSpec, TrainingSpec

torch.set_num_threads(1)
CLASSES = {"gender": ("Male", "Female"), "age.bin": ("0-2", "3-9", "10+")}


def build(trainable: int = 2, shared: int = 8) -> FaceClassifier:
    """Return a small classifier for 32 px, in eval mode."""
    torch.manual_seed(0)
    backbone = build_backbone(ModelSpec(backbone="small_cnn", image_size=32))
    return FaceClassifier(backbone, CLASSES, shared=shared, trainable=trainable).eval()


@pytest.mark.parametrize("trainable", [0, 1, 4])
def test_lower_and_upper_make_the_whole(trainable: int) -> None:
    """Wherever it is cut, maps of the lower blocks give the same logits as the images."""
    model = build(trainable)
    x = model.prepare(torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8))
    with torch.no_grad():
        whole, cut = model(x), model.from_maps(model.lower(x))
    assert {task: tuple(values.shape) for task, values in whole.items()} == {"gender": (3, 2), "age.bin": (3, 3)}
    for task in CLASSES:
        torch.testing.assert_close(whole[task], cut[task])


def test_prepare_normalizes_rgb() -> None:
    """uint8 pixels become (value / 255 − mean) / std, channel by channel in the order R, G, B."""
    model = build()
    image = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    image[..., 0], image[..., 2] = 255, 51
    x = model.prepare(image)
    wanted = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x[0, :, 5, 7].tolist() == pytest.approx(wanted, abs=1e-5)
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_without_a_shared_layer_heads_read_the_embeddings() -> None:
    """`shared = 0` puts the heads on the pooled maps."""
    assert build(shared=0).heads[0].in_features == 128


def test_folding_the_classifier_keeps_its_logits() -> None:
    """`fold_batch_norm` works in place, once, and changes no logit."""
    model = build()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(x)
        after = model.fold_batch_norm().fold_batch_norm()(x)
    for task in CLASSES:
        torch.testing.assert_close(before[task], after[task], rtol=1e-4, atol=1e-5)


def target(codes: list[int], weights: list[float] | None = None, classes: int = 2, share: float = 1.0) -> Target:
    """Return a target with plain labels."""
    return Target(
        codes=torch.tensor(codes),
        weights=torch.tensor(weights or [1.0] * len(codes)),
        soft=torch.eye(classes),
        share=share,
    )


def test_masked_labels_count_nowhere() -> None:
    """The loss with masked labels is torch's cross-entropy of the others; all masked is zero, with zero gradients."""
    torch.manual_seed(0)
    logits = torch.randn(4, 2, requires_grad=True)
    loss = loss_of({"t": logits}, {"t": target([1, -1, 0, -1])}, torch.arange(4))
    torch.testing.assert_close(loss, F.cross_entropy(logits[[0, 2]], torch.tensor([1, 0])))
    none = loss_of({"t": logits}, {"t": target([-1] * 4)}, torch.arange(4))
    none.backward()
    assert none.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_weights_and_shares_scale_the_loss() -> None:
    """Each face counts by its weight, each task by its share, and rows pick the right faces."""
    torch.manual_seed(1)
    logits = torch.randn(2, 3)
    made = loss_of({"t": logits}, {"t": target([9, 2, 9, 0], [9.0, 3.0, 9.0, 0.5], 3, 2.0)}, torch.tensor([1, 3]))
    each = F.cross_entropy(logits, torch.tensor([2, 0]), reduction="none")
    torch.testing.assert_close(made, 2 * (3.0 * each[0] + 0.5 * each[1]) / 2)


def test_soft_labels_are_distributions_around_the_label() -> None:
    """Rows sum to 1; ordinal smoothing falls with distance; label smoothing equals torch's own."""
    ordinal = soft_labels(5, TrainingSpec(ordinal_smoothing=0.7), ordered=True)
    assert torch.allclose(ordinal.sum(1), torch.ones(5))
    assert ordinal[2].argmax() == 2
    assert ordinal[2, 1] == ordinal[2, 3] > ordinal[2, 0]
    logits, smooth = torch.randn(3, 4), soft_labels(4, TrainingSpec(label_smoothing=0.1), ordered=False)
    ours = -(smooth[[0, 3, 1]] * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(ours, F.cross_entropy(logits, torch.tensor([0, 3, 1]), label_smoothing=0.1))


AGES = ("0-2", "3-9", "10-19", "20+")


def ages(years: list[float], labels: list[str | None]) -> FaceTable:
    """Return faces with these ages in years and these bins."""
    frame = pd.DataFrame({"age": pd.Categorical(labels, categories=list(AGES)), "age_years": years})
    return FaceTable(frame=frame, root=Path(), tasks={"age": AGES}, attributes=(), ordered=frozenset({"age"}))


def aged(years: list[float], labels: list[str | None], **spec: float) -> Target:
    """Return the target of faces with these ages in years and these bins."""
    return make_targets(ages(years, labels), ["age"], TrainingSpec(**spec), {})["age"]  # type: ignore[arg-type]


def test_ages_in_years_are_spread_over_the_bins() -> None:
    """Each face's target is the mass of a normal in every bin, the last one open, what is below 0 shared out; a face
    without years, or with years outside its bin, keeps its label's target."""
    nan = float("nan")
    faces = ages([19, 20.5, 1, nan, nan, 40], ["10-19", "20+", "0-2", "20+", None, "3-9"])
    made = aged([19, 20.5, 1, nan, nan, 40], ["10-19", "20+", "0-2", "20+", None, "3-9"], age_smoothing=3.0)
    assert made.own is not None
    for row, centre in enumerate((19.5, 20.5, 1.5)):  # 19 stands for 19 to 20
        below = stats.norm(centre, 3.0).cdf([0, 3, 10, 20, np.inf])
        assert made.own[row].tolist() == pytest.approx(list(np.diff(below) / (1 - below[0])), abs=1e-6)
    assert made.own[3].tolist() == [0, 0, 0, 1]
    assert made.own[5].tolist() == [0, 1, 0, 0]
    assert "3 of 5 labelled" in softening_notes(faces, {"age": made})[0]
    both = aged([19, nan], ["10-19", "3-9"], age_smoothing=3.0, ordinal_smoothing=0.6)
    torch.testing.assert_close(both.aims(torch.tensor([1]))[0], both.soft[1])


def test_the_loss_of_softened_faces_heeds_weights_masks_and_rows() -> None:
    """It is the weighted mean cross-entropy against each face's own distribution; a masked one counts nowhere."""
    torch.manual_seed(2)
    made = aged([19, 5, 30], ["10-19", None, "20+"], age_smoothing=2.0)
    assert made.own is not None
    made = replace(made, weights=torch.tensor([3.0, 9.0, 0.5]))
    logits, rows = torch.randn(3, 4), torch.tensor([2, 1, 0])
    each = F.cross_entropy(logits, made.own[rows], reduction="none")
    torch.testing.assert_close(loss_of({"age": logits}, {"age": made}, rows), (0.5 * each[0] + 3.0 * each[2]) / 2)


def test_without_age_smoothing_the_loss_is_the_same_to_the_last_bit() -> None:
    """Off, ages in years change nothing; on with a width that spreads nothing, neither."""
    torch.manual_seed(3)
    years, labels = [19.0, 5.0, 30.0], ["10-19", "3-9", "20+"]
    logits, rows = torch.randn(3, 4), torch.arange(3)
    off, sharp = aged(years, labels), aged(years, labels, age_smoothing=1e-6)
    assert off.own is None
    plain = -(off.soft[off.codes] * F.log_softmax(logits, 1)).sum(1).sum() / 3
    assert torch.equal(loss_of({"age": logits}, {"age": off}, rows), plain)
    assert torch.equal(loss_of({"age": logits}, {"age": sharp}, rows), plain)


def test_age_smoothing_that_could_soften_nothing_is_refused() -> None:
    """No years, classes that are no bins, no head of age: each is said."""
    with pytest.raises(UsageError, match="no training face has one"):
        aged([float("nan")], ["3-9"], age_smoothing=1.0)
    frame = pd.DataFrame({"age": pd.Categorical(["old", "young"]), "age_years": [70.0, 4.0]})
    faces = FaceTable(frame=frame, root=Path(), tasks={"age": ("old", "young")}, attributes=())
    with pytest.raises(UsageError, match="are old, young"):
        make_targets(faces, ["age"], TrainingSpec(age_smoothing=1), {})
    with pytest.raises(UsageError, match="not among the trained"):
        make_targets(faces, [], TrainingSpec(age_smoothing=1), {})


def test_each_image_is_changed_by_its_own_draw() -> None:
    """A batch equals its images one by one, the same seed gives the same change, and no change is the image itself."""
    images = torch.randint(0, 256, (5, 32, 32, 3), dtype=torch.uint8)
    changes = draw(AugmentationSpec(grayscale=0.3), 5, (1, 2))
    with ThreadPoolExecutor(2) as pool:
        batch = augment_batch(images, changes, pool)
    single = [augment(images[i].permute(2, 0, 1), changes[i]).permute(1, 2, 0) for i in range(5)]
    assert torch.equal(batch, torch.stack(single))
    assert batch.dtype == torch.uint8
    assert not torch.equal(batch, images)
    assert np.array_equal(changes, draw(AugmentationSpec(grayscale=0.3), 5, (1, 2)))
    still = AugmentationSpec(mirror=False, rotate=0, scale=0, shift=0, brightness=0, contrast=0)
    assert torch.equal(augment(images[0], draw(still, 1, (0,))[0]), images[0])


def test_work_ahead_keeps_order_and_loses_nothing() -> None:
    """Every item comes once and in order, few or many; an error reaches the caller."""
    for count in (0, 1, 2, 3, 20):
        clock = Clock()
        assert list(ahead(lambda item: item * item, range(count), clock)) == [item * item for item in range(count)]
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda item: 1 // item, [1, 0, 2]))


def test_class_weights_give_every_class_the_same_total() -> None:
    """n / (K · n_k) for each labelled face, times its sample weight; off by default; a class without faces is left out.

    scikit-learn's class_weight="balanced" is the same formula.
    """
    classes = ("Male", "Female", "Absent")
    frame = pd.DataFrame({"gender": pd.Categorical(["Male", "Male", "Male", "Female", None], categories=classes)})
    faces = FaceTable(frame=frame, root=Path(), tasks={"gender": classes}, attributes=())
    plain = make_targets(faces, ["gender"], TrainingSpec(), {})["gender"].weights
    assert plain.tolist() == [1.0] * 5
    given = {"gender": np.array([1.0, 1.0, 2.0, 1.0, 1.0])}
    weights = make_targets(faces, ["gender"], TrainingSpec(class_weights=True), given)["gender"].weights
    assert weights.tolist() == pytest.approx([4 / 6, 4 / 6, 8 / 6, 4 / 2, 1.0])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_work_flows_in_order_on_every_kind_of_device(device: str) -> None:
    """Items come back in their order, and the number of threads is as before; nothing of it touches the device."""
    before = torch.get_num_threads()
    found = list(flow(lambda item: item + 1, lambda item: item * 10, range(50), torch.device(device), Clock()))
    assert found == [10 * (item + 1) for item in range(50)]
    assert torch.get_num_threads() == before
