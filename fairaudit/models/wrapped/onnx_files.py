"""ONNX files, run by onnxruntime; looked through before that, because sizes and paths in them are a stranger's."""

import importlib
import math
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from fairaudit.errors import DataError, UsageError
from fairaudit.models.wrapped.model import Run
from fairaudit.models.wrapped.networks import only_cpu, only_fp32
from fairaudit.named_code import first_line

LARGEST_FILE = 2 * 2**30  # bytes: protobuf's own limit
LARGEST_TENSOR = 2**31  # values of one intermediate result of one face: more than any classifier of faces has
LARGEST_MEMORY = 8 * 2**30  # bytes that onnxruntime may take, and half of the machine's: sizes may hang on pixels
LONGEST, A_FACE = 300.0, 60.0  # seconds for a call, and for each face in it: a loop may end when the file likes
_FULL = ("Failed to allocate memory", "bad_alloc", "smaller than requested bytes")  # of onnxruntime
_DOMAINS = frozenset(("", "ai.onnx", "ai.onnx.ml", "com.microsoft"))


@dataclass(frozen=True, kw_only=True)
class OnnxRunner:
    """An onnxruntime session on the CPU: one thread a call, since several faces are looked at side by side.

    `more_files` hold tensors that lie outside the model's own file.
    """

    session: Any
    input: str
    numpy_type: str
    outputs: tuple[str, ...]
    batch: int | None = None
    more_files: tuple[Path, ...] = ()
    differentiable: bool = False
    prepares: bool = True

    def place(self, device: str) -> torch.device:
        """Return the CPU."""
        return only_cpu(device, "ONNX files run on the CPU here")

    def on(self, device: torch.device, dtype: torch.dtype) -> Run:
        """Return the function from inputs to the outputs by name; DataError where onnxruntime fails."""
        only_fp32(dtype, "an ONNX file")
        runtime = importlib.import_module("onnxruntime")

        def run(x: Tensor) -> dict[str, Any]:
            given = {self.input: x.contiguous().numpy().astype(self.numpy_type)}
            told, limit = runtime.RunOptions(), LONGEST + A_FACE * len(x)
            timer = threading.Timer(limit, setattr, (told, "terminate", True))
            timer.daemon = True
            timer.start()
            try:
                found = self.session.run(self.outputs, given, told)
            except Exception as error:  # onnxruntime's errors have no public base class
                if any(words in str(error) for words in _FULL):
                    raise MemoryError(first_line(error)) from None  # a smaller batch may do
                if told.terminate:
                    raise DataError(f"the model was stopped: no answer for {len(x)} faces in {limit:,.0f} s") from None
                raise DataError(f"onnxruntime could not run the model: {first_line(error)}") from None
            finally:
                timer.cancel()
            return dict(zip(self.outputs, found, strict=True))

        return run


def open_onnx(path: Path) -> OnnxRunner:
    """Check the file and return its session.

    Raises UsageError without fairaudit[onnx]; DataError for a damaged file, tensors whose size is not what they declare
    or is absurd, data outside the file's folder, operators of unknown origin, or inputs other than one picture.
    """
    try:
        onnx, runtime = importlib.import_module("onnx"), importlib.import_module("onnxruntime")
    except ImportError:
        raise UsageError(f"{path} needs onnx and onnxruntime: pip install 'fairaudit[onnx]'") from None
    if path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path} is refused: it has {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError has no stable home
        raise DataError(f"{path} is no ONNX file, or damaged: {first_line(error) or type(error).__name__}") from None
    try:
        more_files = check_model(model, path, onnx)
    except ValueError as error:  # names that are no text, types of numbers that there are not
        raise DataError(f"{path} is damaged: {first_line(error)}") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    _limit_memory(runtime)
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except Exception as error:
        raise DataError(f"onnxruntime cannot open {path}: {first_line(error)}") from None
    try:
        return _runner(session, path, more_files)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: a name in it is no text ({error})") from None


@lru_cache(maxsize=1)
def _limit_memory(runtime: Any) -> None:
    """Give all sessions of this process one store of memory, which refuses what is beyond its size."""
    half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else LARGEST_MEMORY
    place = runtime.OrtMemoryInfo("Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT)
    usual = dict.fromkeys(("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk"), -1)
    most = {**usual, "max_mem": min(LARGEST_MEMORY, half)}
    runtime.create_and_register_allocator(place, runtime.OrtArenaCfg(most))


def _runner(session: Any, path: Path, more_files: tuple[Path, ...]) -> OnnxRunner:
    inputs = session.get_inputs()
    kinds = {
        "tensor(float)": "float32",
        "tensor(float16)": "float16",
        "tensor(double)": "float64",
        "tensor(uint8)": "uint8",
    }
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in kinds:
        listed = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise DataError(f"{path}: one input of pictures is needed (n × channels × height × width); it has: {listed}")
    first = inputs[0].shape[0]
    return OnnxRunner(
        session=session,
        input=inputs[0].name,
        numpy_type=kinds[inputs[0].type],
        outputs=tuple(one.name for one in session.get_outputs()),
        batch=first if isinstance(first, int) and first > 0 else None,
        more_files=more_files,
    )


def check_model(model: Any, path: Path, onnx: Any) -> tuple[Path, ...]:
    """Return the files in which further tensors lie; DataError for what an honest classifier's file does not hold."""
    more_files: set[Path] = set()
    for graph in _graphs(model):
        for node in graph.node:
            if node.domain not in _DOMAINS:
                raise DataError(
                    f"{path} is refused: its operator {node.op_type!r} of {node.domain!r} needs foreign code"
                )
        for tensor in _tensors(graph):
            more_files.update(_check_tensor(tensor, path, onnx))
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:
        raise DataError(f"{path} is damaged: {first_line(error)}") from None
    inner = [value for graph in _graphs(inferred) for value in graph.value_info]
    for value in [*inner, *inferred.graph.output, *inferred.graph.input]:
        known = [dim.dim_value for dim in value.type.tensor_type.shape.dim if dim.HasField("dim_value")]
        if any(dim < 0 for dim in known) or math.prod(known) > LARGEST_TENSOR:
            raise DataError(
                f"{path} is refused: {value.name!r} would have {' × '.join(f'{d:,}' for d in known)} values"
            )
    return tuple(sorted(more_files))


def _graphs(model: Any) -> Iterator[Any]:
    """Yield the graph, those inside its nodes, and the functions that the file defines."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                waiting += [attribute.g] if attribute.HasField("g") else []
                waiting += list(attribute.graphs)


def _tensors(graph: Any) -> Iterable[Any]:
    """Yield every constant tensor of a graph or function."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in [
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                *attribute.sparse_tensors,
            ]:
                yield from (sparse.values, sparse.indices)


def _check_tensor(tensor: Any, path: Path, onnx: Any) -> list[Path]:
    """Return the file outside the model in which the tensor lies, if any; DataError where its size is not its own."""
    shape = " × ".join(f"{dim:,}" for dim in tensor.dims)
    count = math.prod(tensor.dims)
    if any(dim < 0 for dim in tensor.dims) or count > LARGEST_TENSOR:
        raise DataError(f"{path} is refused: its tensor {tensor.name!r} declares {shape} values")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return [_check_external(tensor, path)]
    if tensor.HasField("raw_data"):
        bits = _bits(tensor.data_type, onnx)
        if bits and len(tensor.raw_data) != -(-count * bits // 8):
            raise DataError(
                f"{path} is refused: its tensor {tensor.name!r} declares {shape} values and holds "
                f"{len(tensor.raw_data):,} bytes"
            )
    return []


def _bits(data_type: int, onnx: Any) -> int:
    name = onnx.TensorProto.DataType.Name(data_type)
    if name in ("STRING", "UNDEFINED"):
        return 0
    if name.endswith("4") and name.startswith(("INT", "UINT", "FLOAT4")) and name not in ("INT64", "UINT64"):
        return 4
    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize * 8)


def _check_external(tensor: Any, path: Path) -> Path:
    """Data in a second file must lie in the folder of the model, and be as long as it says."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location.replace("\\", "/"))
    home = path.parent.resolve()
    target = (path.parent / location).resolve()
    if not location or parts.is_absolute() or ".." in parts.parts or location[1:2] == ":" or home not in target.parents:
        raise DataError(
            f"{path} is refused: its tensor {tensor.name!r} lies at {location!r}, outside the model's own folder"
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError:
        raise DataError(f"{path} is damaged: the place of its tensor {tensor.name!r} is no number") from None
    if not target.is_file():
        raise DataError(f"{path}: its data file {location!r} is missing; put it beside the model")
    if offset < 0 or length < 0 or offset + length > target.stat().st_size:
        raise DataError(
            f"{path} is refused: its tensor {tensor.name!r} asks for {offset:,} + {length:,} bytes of {location!r}, "
            f"which has {target.stat().st_size:,}"
        )
    return target
