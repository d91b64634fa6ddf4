"""What the rows of a prediction depend on: by this, what is done already is known again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

import fairaudit
from fairaudit.data.tables import FaceTable
from fairaudit.environment import source_hash
from fairaudit.files import value_hash
from fairaudit.models.answer_rows import attribute_columns, values_of
from fairaudit.models.pixels import DECODER
from fairaudit.models.protocol import FaceModel


def part_key(checkpoint: FaceModel, faces: FaceTable, precision: str, compile: bool = False) -> dict[str, Any]:
    """Return those entries of the table's description by which a part that is done already is known.

    The device is none of them (see `ran_on`): parts may be predicted on different machines. Nor is whether compiling
    succeeded where it was asked for.
    """
    return {
        "checkpoint_hash": checkpoint.hash,
        "precision": precision,
        "compile": compile,
        "flip_test": checkpoint.flip_test,
        "zoom_test": list(checkpoint.meta.get("zoom_test", ())),
        "faces_hash": value_hash(faces.frame.astype(str).to_csv(index=False)),
        "fairaudit": fairaudit.__version__,
        "source_hash": source_hash(),
    }


def ran_on(device: torch.device) -> dict[str, Any]:
    """Return that entry of the table's description which names what computed it; its last digits depend on it."""
    return {"ran_on": {"device": device.type, "torch": str(torch.__version__), "decoder": DECODER}}


def depends_on(
    key: Mapping[str, Any],
    faces: FaceTable,
    schema: pa.Schema,
    device: torch.device,
    dtype: torch.dtype,
    flip: bool,
    compiled: bool,
) -> dict[str, Any]:
    """Return everything that the table's rows depend on."""
    paths = [faces.root / str(name) for name in faces.frame["image"]] if "sha256" not in faces.frame else []
    return {
        **key,
        **ran_on(device),
        "flip": flip,
        "dtype": str(dtype),  # which precision = "auto" leaves to the machine
        "compiled": compiled,  # which a missing compiler may prevent
        "columns": schema.to_string(),
        "values": {name: values_of(faces, name) for name in attribute_columns(faces)},
        # where a table does not know its files' hashes, their places, sizes and times have to tell
        "files": [[str(path), *_stamp(path)] for path in paths],
    }


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return (-1, -1)
    return state.st_size, state.st_mtime_ns
