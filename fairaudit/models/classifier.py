"""FaceClassifier: a backbone cut into lower and upper blocks, a shared layer, and one head a task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fairaudit.models.backbones import Backbone
from fairaudit.models.folding import fold, speed_up_depthwise
from fairaudit.models.heads import build_heads, layers
from fairaudit.spec import HeadSpec

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


class FaceClassifier(nn.Module):
    """Faces → logits of every task.

    `classes` gives each task's classes in the order of its logits. The first `cut` blocks of the backbone are the lower
    ones, which fine-tuning leaves alone. Images are (N, 3, S, S) as `prepare` makes them, in the backbone's `color`.
    `outputs` names what `classify` returns: the tasks, and `age_years` where ages in years are predicted.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        classes: Mapping[str, Sequence[str]],
        *,
        shared: int | Sequence[int] = 256,
        dropout: float = 0.3,
        activation: str = "relu",
        heads: Mapping[str, HeadSpec] | None = None,
        trainable: int | None = None,
    ) -> None:
        super().__init__()
        self.classes = {task: tuple(names) for task, names in classes.items()}
        self.tasks = tuple(self.classes)
        self.image_size = backbone.image_size
        self.blocks = backbone.blocks
        self.pool = backbone.pool
        self.width = backbone.channels  # of the embeddings
        self.folded = False
        speed_up_depthwise(self.blocks)
        wanted = backbone.trainable if trainable is None else trainable
        self.cut = max(0, len(self.blocks) - wanted)
        widths = tuple(width for width in ([shared] if isinstance(shared, int) else shared) if width)
        self.shared = nn.Sequential(*(layers(backbone.channels, widths, activation, dropout) or [nn.Dropout(dropout)]))
        width = widths[-1] if widths else backbone.channels
        self.outputs, self.heads = build_heads(width, self.classes, heads or {}, activation, dropout)
        self.color = backbone.color
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1), persistent=False)

    def set_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Use these values (in the network's order of channels, on images in 0…1) in `prepare`."""
        self.mean.copy_(torch.tensor(mean).view(3, 1, 1))
        self.std.copy_(torch.tensor(std).view(3, 1, 1))

    def prepare(self, images: Tensor) -> Tensor:
        """Turn uint8 images (N, S, S, 3) into the network's input: float32 (N, 3, S, S), normalized, channels last."""
        x = images.to(self.mean.device).float().div_(255)
        if self.color == "bgr":
            x = x.flip(3)
        elif self.color == "grey":
            x = (x @ x.new_tensor(LUMINANCE))[..., None].repeat(1, 1, 1, 3)
        # whole pictures of the three numbers: a third of the time of three numbers over and over
        mean, std = (numbers.flatten().expand(x.shape[1:]).contiguous() for numbers in (self.mean, self.std))
        return x.sub_(mean).div_(std).permute(0, 3, 1, 2)

    def lower(self, x: Tensor) -> Tensor:
        """Return the lower blocks' maps of prepared images."""
        return self.blocks[: self.cut](x)

    def upper(self, z: Tensor) -> Tensor:
        """Return the pooled embeddings (N, C) of the lower blocks' maps."""
        return self.pooled(self.blocks[self.cut :](z))

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the last maps (N, C, H, W) as embeddings, float32; embeddings (N, C) stay what they are."""
        if maps.dim() != 4:
            return maps.float()
        average = maps.float().mean((2, 3))
        return average if self.pool is None else torch.cat([average, self.pool(maps).float().mean((2, 3))], 1)

    def upper_modules(self) -> list[nn.Module]:
        """Return the parts of the backbone that fine-tuning trains."""
        return [self.blocks[self.cut :], *([self.pool] if self.pool is not None else [])]

    def embed(self, x: Tensor) -> Tensor:
        """Return the pooled embeddings (N, C) of prepared images."""
        return self.upper(self.lower(x))

    def classify(self, embeddings: Tensor) -> dict[str, Tensor]:
        """Return each task's logits (N, K) from pooled embeddings: log probabilities of an ordinal head; and ages in
        years (N, 1) as `age_years` where there is a head for them."""
        hidden = self.shared(embeddings)
        return {task: head(hidden).float() for task, head in zip(self.outputs, self.heads, strict=True)}

    def from_maps(self, z: Tensor) -> dict[str, Tensor]:
        """Return each task's logits (N, K) from the lower blocks' maps."""
        return self.classify(self.upper(z))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return each task's logits (N, K) of prepared images (N, 3, S, S)."""
        return self.classify(self.embed(x))

    def fold_batch_norm(self) -> "FaceClassifier":
        """Fold the backbone's batch norms into its convolutions, in place: the same results, faster; in eval mode."""
        if not self.folded:
            fold(self.blocks.eval())
            self.folded = True
        return self


def probabilities(logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the softmax of each task's logits, in float32; a single column is no class but years, and stays."""
    return {task: values.float().softmax(1) if values.shape[1] > 1 else values for task, values in logits.items()}
