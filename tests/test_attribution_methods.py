"""Every attribution method: known answers of a linear model, a planted place, and heads that share their passes."""

import numpy as np
import pytest
import torch
from test_attribution import SIZE, Patch, classifier, small_cnn
from torch import Tensor, nn

from fairaudit.attribution.effort import Effort, seeded
from fairaudit.attribution.methods import ATTRIBUTIONS, blurred, class_scores, completeness_error
from fairaudit.attribution.superpixels import region_pieces, superpixels
from fairaudit.data.frames import ALIGNMENTS
from fairaudit.errors import UsageError

TARGETS = {"gender": torch.tensor([1]), "race": torch.tensor([2])}
BLOCKS = torch.arange(SIZE)[:, None] // 8 * 4 + torch.arange(SIZE)[None, :] // 8  # sixteen pieces; Patch is the first
EFFORT = Effort(steps=24, samples=300, rows=32, window=0.25, segments=BLOCKS[None, None], noise=0.0)
LINEAR = ("integrated-gradients", "gradient-shap", "input-x-gradient", "deep-lift")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Tiny networks are faster in one thread."""
    torch.set_num_threads(1)


def linear() -> nn.Module:
    """A classifier whose score is linear in every pixel."""
    return classifier(nn.Sequential(nn.Flatten()), 3 * SIZE * SIZE).requires_grad_(False)


def weights(model: nn.Module, task: str) -> Tensor:
    """Return the score's weight of each pixel (1, C, H, W)."""
    head = model.heads[list(TARGETS).index(task)]
    return (head.weight[TARGETS[task]] - head.weight.mean(0)).detach().view(1, 3, SIZE, SIZE)


def face() -> Tensor:
    """A random face."""
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


class Maps(nn.Module):
    """The face itself as the last maps, so that Grad-CAM has a known answer."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the face."""
        return x


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_model_gives_weight_times_distance(name: str) -> None:
    """For a linear score every method of differences gives weight × (face − baseline), and adds up."""
    model, x = linear(), face()
    baseline = blurred(x)
    found = ATTRIBUTIONS[name].explain(model, x, baseline, TARGETS, EFFORT)
    for task in TARGETS:
        torch.testing.assert_close(found[task], weights(model, task) * (x - baseline), rtol=1e-3, atol=1e-6)
    for error in completeness_error(model, x, baseline, TARGETS, found).values():
        assert error.item() < 1e-3


def test_saliency_of_a_linear_model_is_its_weight() -> None:
    """The gradient of a linear score is its weight, with its sign."""
    model, x = linear(), face()
    found = ATTRIBUTIONS["saliency"].explain(model, x, x, TARGETS, EFFORT)
    for task in TARGETS:
        torch.testing.assert_close(found[task], weights(model, task))


@pytest.mark.parametrize(("name", "tolerance"), [("lime", 0.02), ("kernel-shap", 0.02)])
def test_hiding_pieces_of_a_linear_model_gives_their_parts(name: str, tolerance: float) -> None:
    """For a linear score a piece's sum is what the piece adds to the score; the heads share the masked faces."""
    model, x = linear(), face()
    baseline = torch.zeros_like(x)
    found = ATTRIBUTIONS[name].explain(model, x, baseline, TARGETS, EFFORT)
    for task in TARGETS:
        wanted = torch.bincount(BLOCKS.flatten(), (weights(model, task) * x).sum((0, 1)).flatten())
        got = torch.bincount(BLOCKS.flatten(), found[task].sum((0, 1)).flatten())
        torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))


def test_occlusion_of_a_linear_model_gives_the_loss_of_each_square() -> None:
    """A pixel's value is the mean, over the squares that hide it, of their loss of score a pixel."""
    model, x = linear(), face()
    found = ATTRIBUTIONS["occlusion"].explain(model, x, torch.zeros_like(x), TARGETS, EFFORT)
    side, stride = 8, 4
    for task in TARGETS:
        part = (weights(model, task) * x).sum((0, 1))
        total, seen = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
        for top in range(0, SIZE - side + 1, stride):
            for left in range(0, SIZE - side + 1, stride):
                place = (slice(top, top + side), slice(left, left + side))
                total[place] += part[place].sum()
                seen[place] += 1
        wanted = total / seen / (3 * side * side)
        torch.testing.assert_close(found[task][0, 0], wanted, rtol=1e-3, atol=1e-6)


def test_grad_cam_is_the_weighted_sum_of_the_last_maps() -> None:
    """Maps weighted by their mean gradient, no negative value; guided Grad-CAM multiplies by the guided gradient."""
    model = classifier(nn.Sequential(nn.ReLU(), Maps()), 3).requires_grad_(False)
    x = face()
    found = ATTRIBUTIONS["grad-cam"].explain(model, x, x, TARGETS, EFFORT)
    for i, task in enumerate(TARGETS):
        head = model.heads[i]
        weight = (head.weight[TARGETS[task]] - head.weight.mean(0)).view(1, 3, 1, 1) / SIZE**2
        wanted = (weight * x.relu()).sum(1, keepdim=True).relu()
        torch.testing.assert_close(found[task], wanted, rtol=1e-3, atol=1e-9)
        guided = ATTRIBUTIONS["guided-grad-cam"].explain(model, x, x, TARGETS, EFFORT)[task]
        passed = weight.relu() * (x > 0)  # only what argues for the class passes a ReLU backwards
        torch.testing.assert_close(guided, wanted * passed, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ATTRIBUTIONS if "cam" not in name])
def test_a_planted_place_is_found(name: str) -> None:
    """A model that sees the top left corner only: all of the attribution lies there."""
    model = classifier(nn.Sequential(Patch()), 3 * 64).requires_grad_(False)
    x = face()
    found = ATTRIBUTIONS[name].explain(model, x, blurred(x), TARGETS, EFFORT)
    for values in found.values():
        inside = float(values[..., :8, :8].abs().sum() / values.abs().sum())
        # occlusion's squares reach out of the place by up to their own side; a regression is not quite exact
        assert inside > {"occlusion": 0.4, "lime": 0.97, "kernel-shap": 0.97}.get(name, 1 - 1e-6)


@pytest.mark.parametrize("name", ["grad-cam", "guided-grad-cam"])
def test_grad_cam_finds_a_planted_place(name: str) -> None:
    """Maps that are zero outside the corner leave nothing there."""

    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.zeros_like(x)
            mask[..., :8, :8] = 1
            return x * mask

    model = classifier(nn.Sequential(nn.ReLU(), Corner()), 3).requires_grad_(False)
    for values in ATTRIBUTIONS[name].explain(model, face(), face(), TARGETS, EFFORT).values():
        assert values.abs().sum() > 0
        assert float(values[..., 8:, :].abs().sum() + values[..., :, 8:].abs().sum()) == 0


@pytest.mark.parametrize("name", ATTRIBUTIONS)
def test_every_method_takes_a_convolutional_network(name: str) -> None:
    """Two convolutions, a batch norm and an in-place ReLU: finite attributions a head, the model left as it was."""
    model = classifier(small_cnn(), 8, shared=5).requires_grad_(False)
    x = face()
    with torch.no_grad():
        before = model(x)
    found = ATTRIBUTIONS[name].explain(model, x, blurred(x), TARGETS, EFFORT)
    again = ATTRIBUTIONS[name].explain(model, x, blurred(x), TARGETS, EFFORT)
    for task in TARGETS:
        assert found[task].shape[0] == 1 and found[task].shape[2:] == (SIZE, SIZE)
        assert torch.isfinite(found[task]).all()
        torch.testing.assert_close(found[task], again[task])
    with torch.no_grad():
        after = model(x)
    for task in TARGETS:
        torch.testing.assert_close(before[task], after[task])
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())


@pytest.mark.parametrize("name", [name for name, method in ATTRIBUTIONS.items() if method.adds_up])
def test_methods_that_add_up_do(name: str) -> None:
    """Their attributions sum to the change of the score, on a network that is not linear."""
    model = classifier(small_cnn(), 8).requires_grad_(False)
    x = face()
    effort = Effort(steps=400, samples=400, rows=64, segments=BLOCKS[None, None], noise=0.0)
    found = ATTRIBUTIONS[name].explain(model, x, blurred(x), TARGETS, effort)
    for error in completeness_error(model, x, blurred(x), TARGETS, found).values():
        assert error.item() < (0.4 if name == "gradient-shap" else 0.05)  # an integral by chance takes many samples


def test_deep_lift_follows_a_capped_activation_and_refuses_one_used_twice() -> None:
    """ReLU6 obeys the rescale rule, so the attributions add up; one module called twice is refused in words."""

    class Capped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cap = nn.ReLU6(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.cap(8 * x.flatten(1)[:, ::97])

    class Twice(Capped):
        def forward(self, x: Tensor) -> Tensor:
            return self.cap(self.cap(x.flatten(1)[:, ::97]) - 1)

    x = face()
    model = classifier(nn.Sequential(Capped()), 32).requires_grad_(False)
    explain = ATTRIBUTIONS["deep-lift"].explain
    found = explain(model, x, blurred(x), TARGETS, EFFORT)
    for error in completeness_error(model, x, blurred(x), TARGETS, found).values():
        assert error.item() < 1e-3
    with pytest.raises(UsageError, match="several times"):
        explain(classifier(nn.Sequential(Twice()), 32).requires_grad_(False), x, blurred(x), TARGETS, EFFORT)


def test_networks_without_maps_are_refused_by_grad_cam() -> None:
    """A network that ends in an embedding has no maps; one without a ReLU has nothing to guide by."""
    with pytest.raises(UsageError, match="maps"):
        ATTRIBUTIONS["grad-cam"].explain(linear(), face(), face(), TARGETS, EFFORT)
    model = classifier(nn.Sequential(nn.Conv2d(3, 8, 3, 2)), 8).requires_grad_(False)
    with pytest.raises(UsageError, match="ReLU"):
        ATTRIBUTIONS["guided-grad-cam"].explain(model, face(), face(), TARGETS, EFFORT)


def test_seeds_are_put_back() -> None:
    """Random methods neither shift nor depend on the process's own random numbers."""

    def draw() -> tuple[float, float]:
        return float(torch.rand(1)), float(np.random.rand())  # noqa: NPY002 (what Captum draws from)

    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    wanted = draw()
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    with seeded(9):
        first = draw()
    assert draw() == wanted
    with seeded(9):
        assert draw() == first


def test_superpixels_follow_colour_and_cover_the_picture() -> None:
    """About as many pieces as asked for, numbered from 0, and no piece straddles a sharp edge of colour."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, 29:] = 255
    pieces = superpixels(pixels, 40)
    assert pieces.shape == (64, 64)
    assert 25 <= pieces.max() + 1 <= 60
    assert set(np.unique(pieces)) == set(range(pieces.max() + 1))
    left, right = set(np.unique(pieces[:, :28])), set(np.unique(pieces[:, 31:]))
    assert not left & right
    regions = region_pieces(ALIGNMENTS["utkface"], 64, 64)
    assert set(np.unique(regions)) == set(range(9))


def test_heads_share_occlusions_passes() -> None:
    """All heads at once get what Captum gives each alone."""
    from captum.attr import Occlusion

    model = classifier(small_cnn(), 8, shared=5).requires_grad_(False)
    x = face()
    found = ATTRIBUTIONS["occlusion"].explain(model, x, blurred(x), TARGETS, EFFORT)
    for task, classes in TARGETS.items():
        alone = Occlusion(lambda z, task=task, c=classes: class_scores(model(z)[task], c.expand(len(z)))).attribute(
            x, sliding_window_shapes=(3, 8, 8), strides=(3, 4, 4), baselines=blurred(x)
        )
        torch.testing.assert_close(found[task] * 3 * 64, alone, rtol=1e-3, atol=1e-5)
