"""Heads and their losses: ordered classes, ages in years, layers of their own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.discrete.discrete_model import Logit
from statsmodels.miscmodels.ordinal_model import OrderedModel
from torch import Tensor, nn
from torch.nn import functional as F

from fairaudit.data.tables import FaceTable
from fairaudit.errors import UsageError
from fairaudit.models.backbones import build_backbone
from fairaudit.models.classifier import FaceClassifier, probabilities
from fairaudit.models.heads import AGE_YEARS, SMALLEST_GAP, STEEPNESS, Ordinal, smallest_size
from fairaudit.models.losses import LOSSES, coral, huber, l1, loss_of, make_targets, soft_labels
from fairaudit.spec import HeadSpec, ModelSpec, TrainingSpec

torch.set_num_threads(1)
BINS = ("0-9", "10-19", "20-29", "30+")


def build(**heads: HeadSpec) -> FaceClassifier:
    """Return a small classifier with these heads of gender and age, in eval mode."""
    torch.manual_seed(0)
    backbone = build_backbone(ModelSpec(backbone="small_cnn", image_size=32))
    classes = {"gender": ("Male", "Female"), "age": BINS}
    return FaceClassifier(backbone, classes, shared=(8,), heads=heads).eval()


def faces(years: list[float], labels: list[str | None], *, ordered: bool = True) -> FaceTable:
    """Return faces with these ages."""
    frame = pd.DataFrame({"age": pd.Categorical(labels, categories=list(BINS)), "age_years": years})
    order = frozenset({"age"} if ordered else ())
    return FaceTable(frame=frame, root=Path(), tasks={"age": BINS}, attributes=(), ordered=order)


@settings(deadline=None, max_examples=50)
@given(
    st.integers(3, 12),
    st.floats(-16, 16),
    st.lists(st.floats(-15, 6), min_size=10, max_size=10),
)
def test_ordinal_heads_give_probabilities_that_follow_the_cumulative_ones(
    classes: int, score: float, gaps: list[float]
) -> None:
    """Whatever score and thresholds: all classes sum to 1, and P(class ≥ k) = σ(5 (score + b_k)) falls with k."""
    head = Ordinal(1, classes)
    with torch.no_grad():
        head.score.weight.fill_(1.0)
        head.gaps.copy_(torch.tensor(gaps[: classes - 2]))
        log = head(torch.tensor([[score]]))
    assert torch.isfinite(log).all()
    made = log.double().exp()[0]
    assert made.sum().item() == pytest.approx(1, abs=1e-5)
    reached = torch.sigmoid(STEEPNESS * score + thresholds(head))
    assert made.flip(0).cumsum(0).flip(0)[1:].tolist() == pytest.approx(reached.tolist(), abs=1e-5)
    assert (reached.diff() <= 0).all()


def test_an_untrained_ordinal_head_can_prefer_any_class() -> None:
    """Thresholds lie evenly around score 0, each class has a window of its own, in which it is the likeliest."""
    for classes in (3, 9):
        head = Ordinal(1, classes)
        with torch.no_grad():
            head.score.weight.fill_(1.0)
            made = head(torch.linspace(-3, 3, 601)[:, None]).exp()
        assert sorted(set(made.argmax(1).tolist())) == list(range(classes))
        assert (made.max(0).values > 0.4).all()
        assert made[300].tolist() == pytest.approx(made[300].flip(0).tolist(), abs=1e-5)


def thresholds(head: Ordinal) -> Tensor:
    """Return the logits of P(class ≥ k) at score 0."""
    with torch.no_grad():
        gap = F.softplus(head.gaps.double()) + SMALLEST_GAP
        return STEEPNESS * (head.first.double() - torch.cat([torch.zeros(1).double(), gap.cumsum(0)]))


def fit(loss: object, x: Tensor, codes: Tensor, classes: int) -> Ordinal:
    """Return an ordinal head fitted to data by full-batch optimization."""
    torch.manual_seed(0)
    head = Ordinal(x.shape[1], classes)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(head(x), F.one_hot(codes, classes).float()).mean()  # type: ignore[operator]
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return head


def ordered_data() -> tuple[Tensor, Tensor]:
    """Return 600 faces of two numbers and one of four ordered classes."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 2))
    hidden = x @ [1.5, -0.7] + rng.logistic(size=600)
    return torch.tensor(x).float(), torch.tensor(np.digitize(hidden, [-1.5, 0.3, 2.0]))


def test_the_cumulative_head_is_the_ordered_logit_model() -> None:
    """Its maximum likelihood fit has statsmodels' coefficients and probabilities."""
    x, codes = ordered_data()
    head = fit(lambda values, aims: -(aims * values.log_softmax(1)).sum(1), x, codes, 4)
    reference = OrderedModel(codes.numpy(), x.numpy(), distr="logit").fit(method="bfgs", disp=0)
    assert (STEEPNESS * head.score.weight[0]).tolist() == pytest.approx(list(reference.params[:2]), abs=0.01)
    np.testing.assert_allclose(head(x).exp().detach().numpy(), reference.predict(), atol=5e-3)


def test_corals_loss_is_the_sum_of_binary_cross_entropies() -> None:
    """Each of the K − 1 tasks asks for class ≥ k, of soft labels, too."""
    torch.manual_seed(4)
    head = Ordinal(3, 5)
    x = torch.randn(6, 3)
    aims = soft_labels(5, TrainingSpec(label_smoothing=0.2), ordered=True)[[0, 1, 2, 3, 4, 2]]
    logits = STEEPNESS * head.score(x) + thresholds(head).float()
    wanted = torch.stack([aims[:, k:].sum(1) for k in range(1, 5)], 1)
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").sum(1)
    torch.testing.assert_close(coral(head(x), aims), each)


def test_corals_fit_is_a_logistic_regression_of_all_binary_tasks_at_once() -> None:
    """With shared weights and a bias a task: statsmodels' coefficients on the stacked tasks, biases in order."""
    x, codes = ordered_data()
    head = fit(coral, x, codes, 4)
    stacked = np.hstack([np.tile(x.numpy(), (3, 1)), np.repeat(np.eye(3), len(x), axis=0)])
    reached = np.concatenate([codes.numpy() >= k for k in (1, 2, 3)]).astype(float)
    wanted = Logit(reached, stacked).fit(disp=0).params
    assert [*(STEEPNESS * head.score.weight[0]).tolist(), *thresholds(head).tolist()] == pytest.approx(
        list(wanted), abs=0.01
    )


def test_losses_of_years_are_in_decades() -> None:
    """Absolute error, and Huber's with a knee at five years; gradients reach the head."""
    values = torch.tensor([[30.0], [41.0], [20.0]], requires_grad=True)
    aims = torch.tensor([[30.0], [40.0], [40.0]])
    torch.testing.assert_close(l1(values, aims), torch.tensor([0.0, 0.1, 2.0]))
    torch.testing.assert_close(huber(values, aims), torch.tensor([0.0, 0.1**2 / 2, 0.5 * (2.0 - 0.25)]))
    l1(values, aims).sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().tolist() == pytest.approx([0, 0.1, -0.1])


def test_years_are_an_output_beside_the_bins() -> None:
    """`age_years` comes last, one column in years, and is no probability; the heads' own layers are its, too."""
    model = build(age=HeadSpec(kind="coral", years="l1", hidden=(6,), activation="tanh", dropout=0.1))
    assert model.outputs == ("gender", "age", AGE_YEARS)
    made = probabilities(model(torch.randn(3, 3, 32, 32)))
    assert made["age"].sum(1).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert made[AGE_YEARS].shape == (3, 1)
    assert ((made[AGE_YEARS] > 0) & (made[AGE_YEARS] < 100)).all()
    own = model.heads[2]
    assert isinstance(own, nn.Sequential)
    assert [type(part) for part in own[:4]] == [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout]
    assert own[3].p == 0.1


def test_faces_without_years_teach_no_years() -> None:
    """The loss of years is that of the faces which have them; the bins go on learning from all, in one sum."""
    known = faces([5.0, float("nan"), 33.0], ["0-9", "10-19", None])
    heads = {"age": HeadSpec(years="l1")}
    spec = TrainingSpec(task_weights={AGE_YEARS: 0.5})
    targets = make_targets(known, ["age"], spec, {}, heads)
    logits = {"age": torch.randn(3, 4), AGE_YEARS: torch.tensor([[15.0], [99.0], [38.0]])}
    bins = F.cross_entropy(logits["age"][:2], torch.tensor([0, 1]))
    torch.testing.assert_close(loss_of(logits, targets, torch.arange(3)), bins + 0.5 * (1.0 + 0.5) / 2)
    with pytest.raises(UsageError, match="no training face has one"):
        make_targets(faces([float("nan")], ["0-9"]), ["age"], spec, {}, heads)


def test_label_smoothing_works_with_every_kind_of_head() -> None:
    """It moves the loss of each; with soft labels it is that of the blend of distributions."""
    torch.manual_seed(5)
    some, rows = faces([1, 12, 25], ["0-9", "10-19", "20-29"]), torch.arange(3)
    for kind in ("softmax", "coral", "cumulative"):
        heads = {"age": HeadSpec(kind=kind)}
        log = torch.randn(3, 4).log_softmax(1)
        values = []
        for smoothing in (0.0, 0.3):
            targets = make_targets(some, ["age"], TrainingSpec(label_smoothing=smoothing), {}, heads)
            assert targets["age"].loss == kind
            values.append(loss_of({"age": log}, targets, rows))
        uniform = replace(targets["age"], soft=torch.full((4, 4), 0.25))
        even = loss_of({"age": log}, {"age": uniform}, rows)
        torch.testing.assert_close(values[1], 0.7 * values[0] + 0.3 * even)


@pytest.mark.parametrize("kind", ["coral", "cumulative"])
def test_ordinal_heads_learn_at_the_learning_rate_of_the_others(kind: str) -> None:
    """In 150 steps of the default learning rate they come close to what a softmax head reaches on ordered classes."""
    rng = np.random.default_rng(2)
    x = torch.tensor(rng.normal(size=(800, 16))).float()
    codes = torch.tensor(np.digitize(x[:, :4].sum(1).numpy() + rng.normal(0, 0.5, 800), np.linspace(-3, 3, 8)))
    right = {}
    for name in ("softmax", kind):
        torch.manual_seed(1)
        head = nn.Linear(16, 9) if name == "softmax" else Ordinal(16, 9)
        optimizer = torch.optim.AdamW(head.parameters(), lr=TrainingSpec().head_learning_rate, weight_decay=0.02)
        for _ in range(150):
            loss = LOSSES[name](head(x), F.one_hot(codes, 9).float()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        right[name] = (head(x).argmax(1) == codes).float().mean().item()
    assert right[kind] > right["softmax"] - 0.05
    assert right[kind] > 0.3


def test_heads_that_cannot_be_are_refused() -> None:
    """An unknown task, two classes in an order, years of gender, an order where there is none."""
    with pytest.raises(UsageError, match="did you mean 'age'"):
        build(aeg=HeadSpec())
    with pytest.raises(UsageError, match="three or more classes"):
        build(gender=HeadSpec(kind="coral"))
    with pytest.raises(UsageError, match="only the head 'age'"):
        build(gender=HeadSpec(years="l1"))
    with pytest.raises(UsageError, match="have none: 0-9, 10-19"):
        make_targets(faces([1.0], ["0-9"], ordered=False), ["age"], TrainingSpec(), {}, {"age": HeadSpec(kind="coral")})


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"])
def test_depth_width_and_activation_are_the_specs(name: str) -> None:
    """Shared layers of any number; every activation is built; the smallest size bounds the parameters from below."""
    torch.manual_seed(0)
    backbone = build_backbone(ModelSpec(backbone="small_cnn", image_size=32))
    classes = {"age": BINS}
    heads = {"age": HeadSpec(hidden=(5, 4), kind="cumulative", years="huber")}
    model = FaceClassifier(backbone, classes, shared=[12, 7], activation=name, heads=heads)
    widths = [part.out_features for part in model.shared if isinstance(part, nn.Linear)]
    assert widths == [12, 7]
    used = {type(part).__name__.lower().replace("leakyrelu", "leaky_relu") for part in model.shared}
    assert name in used
    heads_size = sum(value.numel() for value in [*model.shared.parameters(), *model.heads.parameters()])
    assert 12 * 7 < smallest_size((12, 7), heads, classes) <= heads_size
    assert model(torch.randn(4, 3, 32, 32))["age"].shape == (4, 4)
