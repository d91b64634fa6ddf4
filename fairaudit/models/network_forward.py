"""What a network of ours says of faces: its function from uint8 pictures to probabilities, for any device."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairaudit.models.answers import EMBEDDINGS
from fairaudit.models.classifier import FaceClassifier, probabilities
from fairaudit.models.compiling import CompiledBlocks
from fairaudit.models.feeds import frozen_blocks
from fairaudit.models.folding import twin
from fairaudit.models.protocol import Forward
from fairaudit.models.realign import looks, zooming
from fairaudit.models.runtime import autocast


def network_forward(
    network: FaceClassifier, device: torch.device, dtype: torch.dtype, *, flip: bool, zooms: Sequence[float] = (),
    embeddings: bool = False, compiled_for: int | None = None,
) -> tuple[Forward, CompiledBlocks | None]:  # fmt: skip
    """Return the function, batch norms folded, channels last, no gradients, averaging over `zooms` and, with `flip`,
    mirrored faces; `embeddings` come beside the probabilities where they are asked for.

    With `compiled_for` its blocks are compiled for batches of about that many faces: the second value, else None.
    """
    blocks = frozen_blocks(network.blocks, network, dtype).to(device)
    model = twin(network, {id(network.blocks): blocks}).to(device)
    resized = [zooming(model.image_size, zoom).to(device) for zoom in zooms]
    # whole sixteens on a CPU: other heights of a matrix add up in another order, and the batch's size would show
    whole = 16 if device.type == "cpu" else 1
    compiled = CompiledBlocks(blocks, compiled_for + -compiled_for % whole) if compiled_for else None

    def forward(pixels: Tensor) -> dict[str, np.ndarray]:
        rows = len(pixels)
        wanted = compiled.filled(rows) if compiled else rows
        wanted += -wanted % whole
        if wanted > rows:
            pixels = nn.functional.pad(pixels, (0, 0, 0, 0, 0, 0, 0, wanted - rows))
        with torch.inference_mode():
            x = model.prepare(pixels)
            each = [_one(model, compiled or blocks, view, dtype, embeddings) for view in looks(x, resized, flip=flip)]
        return {task: torch.stack([one[task] for one in each]).mean(0)[:rows].cpu().numpy() for task in each[0]}

    return forward, compiled


def _one(
    model: FaceClassifier, blocks: Callable[[Tensor], Any], x: Tensor, dtype: torch.dtype, embeddings: bool
) -> dict[str, Tensor]:
    with autocast(x.device, dtype):
        maps = blocks(x.to(dtype))
    pooled = model.pooled(maps.float())
    return {**probabilities(model.classify(pooled)), **({EMBEDDINGS: pooled} if embeddings else {})}
