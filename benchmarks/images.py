"""Faces a second from image files to float tensors: ours against PIL + torchvision's v1 transforms.

    python benchmarks/images.py [--faces 500] [--size 128] [--data ../shared/faces/utkface]

Both sides decode, resize and normalize in one thread; pixels before normalization must agree within one uint8 step
(two in at most 1 of a million). Then the same faces once more, from the uint8 cache that the first pass left.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from faces import some_faces
from PIL import Image
from timing import alternate
from torchvision import transforms

from fairaudit.files import file_hash
from fairaudit.models.backbones import build_backbone
from fairaudit.models.cache import CHUNK, ArrayCache
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.feeds import decoded
from fairaudit.models.pixels import load_face
from fairaudit.models.runtime import keep_freed_memory
from fairaudit.spec import ModelSpec

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Run both sides and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=500)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--data", type=Path, default=Path("../shared/faces/utkface"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as every command here does; the other side gains by it, too
    size = given.size
    v1 = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(list(MEAN), list(STD))]
    )

    with tempfile.TemporaryDirectory() as name:
        faces = some_faces(given.data, given.faces, Path(name) / "faces")
        paths = [faces.root / image for image in faces.frame["image"]]
        chunks = [slice(start, start + CHUNK) for start in range(0, len(paths), CHUNK)]
        hashes = [file_hash(path) for path in paths]
        store = ArrayCache(folder=Path(name) / "cache")

        def plain() -> None:
            for path in paths:
                with Image.open(path) as image:
                    v1(image.convert("RGB"))

        normalized = FaceClassifier(build_backbone(ModelSpec(backbone="small_cnn", image_size=size)), {}).prepare

        def ours() -> None:
            for rows in chunks:
                normalized(torch.from_numpy(np.stack([load_face(path, size) for path in paths[rows]])))

        def again() -> None:
            stored = decoded(faces, size, hashes, store, "benchmark")
            for rows in chunks:
                normalized(stored[rows])

        def decoded_only() -> None:
            stored = decoded(faces, size, hashes, store, "benchmark")
            for rows in chunks:
                stored[rows].clone()

        again()  # fills the cache
        sides = {"PIL + v1": plain, "decoded": ours, "from the cache": again, "uint8 from the cache": decoded_only}
        seconds, _ = alternate(sides, 5)
        steps = np.zeros(256, dtype=np.int64)
        stored = decoded(faces, size, hashes, store, "benchmark").numpy()
        for path, kept in zip(paths, stored, strict=True):
            with Image.open(path) as image:
                wanted = np.array(image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR))
            if not np.array_equal(load_face(path, size), kept):
                raise SystemExit(f"{path}: the cache holds other pixels than the decoder gives")
            steps += np.bincount(np.abs(kept.astype(np.int16) - wanted).ravel(), minlength=256)
    share = steps / steps.sum()
    print(f"{100 * share[0]:.3f} % of the values equal PIL's, {100 * share[1]:.3f} % are one step off, {steps[2]} two")
    if steps[3:].any() or share[2] > 1e-6:
        raise SystemExit("the two sides disagree by more than a uint8 step")
    for side, spent in seconds.items():
        ratio = seconds["PIL + v1"] / spent
        print(f"{side}: {len(paths) / spent:,.0f} faces a CPU second, {ratio:.2f}× PIL + torchvision v1")


if __name__ == "__main__":
    main()
