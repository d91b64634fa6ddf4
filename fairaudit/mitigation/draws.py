"""One number between 0 and 1 for each face, made of its embedding: randomised decisions that do not change."""

from hashlib import blake2b

import numpy as np


def face_draws(x: np.ndarray, salt: int) -> np.ndarray:
    """Return a number in [0, 1) for each embedding of `x` (n, d), float64 (n,), as if drawn at random.

    The same embedding and salt give the same number, in any order, batch and process; two pictures that embed alike
    share it. Made of BLAKE2b over the embedding's float32 bytes.
    """
    key = int(salt).to_bytes(8, "little", signed=True)
    rows = np.ascontiguousarray(x, dtype="<f4")
    digests = b"".join(blake2b(row.tobytes(), digest_size=8, key=key).digest() for row in rows)
    # 53 bits fill a float exactly, so that the number is always below 1
    return (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)) * 2.0**-53
