"""What a torch file (.pt, .pth) is, and what it declares, read before torch reads it: nothing in it is executed.

torch takes the sizes in a file at their word: a pickle of a few hundred bytes can ask for a terabyte, or for memory
beyond a record's end. Here every global of the pickle becomes an inert stand-in, and every declared size is compared
with what the file holds.
"""

import io
import math
import operator
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

from fairaudit.errors import DataError

LARGEST_FILE = 16 * 2**30  # bytes
LARGEST_PICKLE = 256 * 2**20  # bytes of structure, without the tensors' values
MOST_RECORDS = 200_000
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
_ITEM_SIZES = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool", "Untyped"), 1),
    "ComplexDouble": 16,
}
_DTYPES = frozenset(
    (
        *("float64", "float32", "float16", "bfloat16", "double", "float", "half", "complex64", "complex128"),
        *("int64", "int32", "int16", "int8", "uint8", "bool"),
    )
)


class UntrustedError(DataError):
    """The file asks for more than weights: reading all of it would run code."""


@dataclass
class _Storage:
    """Declared memory: how many values of how many bytes, under which key."""

    key: str
    count: int
    item_size: int


@dataclass
class _Seen:
    """What a dry run of the pickle met."""

    storages: dict[str, _Storage] = field(default_factory=dict)
    tensors: int = 0


class _Inert:
    """Stands for a value that is of no interest; takes any state and does nothing with it."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _DryRun(pickle._Unpickler):
    """Runs a pickle with stand-ins only. The pure-Python unpickler: the C one lets a pickle reserve memory at will."""

    stack: list[Any]  # of the base class

    def __init__(self, stream: BinaryIO, seen: _Seen, path: Path) -> None:
        super().__init__(stream, encoding="utf-8")
        self.seen, self.path = seen, path

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in of a global that state dicts use; UntrustedError for any other."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return name.removesuffix("Storage") if name != "UntypedStorage" else "Untyped"
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return self._tensor
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return _Inert
        if module == "torch" and (name in _DTYPES or name in ("Size", "device")):
            return _Inert
        if module in ("builtins", "__builtin__") and name in ("set", "dict", "list", "int", "float"):
            return _Inert
        raise UntrustedError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """Return the declared storage of ("storage", type, key, device, count, …)."""
        try:
            word, kind, key, count = pid[0], pid[1], pid[2], pid[4]
            if not isinstance(key, str):  # a number, or something whose text alone could fill memory
                key = str(operator.index(key))
            item_size = _ITEM_SIZES[kind if word == "storage" else word]
        except (TypeError, IndexError, KeyError):
            raise DataError(f"{self.path} is damaged: it names memory in a way that torch does not") from None
        if not isinstance(count, int) or count < 0:
            raise DataError(f"{self.path} is refused: it declares memory for {count!r} values")
        made = self.seen.storages.setdefault(key, _Storage(key, count, item_size))
        if made.count * made.item_size != count * item_size:
            raise DataError(f"{self.path} is refused: it declares the memory {key!r} twice, with two sizes")
        return made

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *rest: object) -> _Inert:
        whole = [
            offset,
            *(size if isinstance(size, tuple) else (size,)),
            *(stride if isinstance(stride, tuple) else ()),
        ]
        good = isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(stride, tuple)
        if not good or len(size) != len(stride) or not all(isinstance(n, int) and n >= 0 for n in whole):
            raise DataError(f"{self.path} is damaged: it holds a tensor of impossible shape")
        values = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if values else 0
        if values > storage.count or last >= max(storage.count, 1):
            shape = " × ".join(f"{n:,}" for n in size)
            raise DataError(
                f"{self.path} is refused: it declares a tensor of {shape} values in memory of {storage.count:,}"
            )
        self.seen.tensors += 1
        return _Inert()

    def _drop_state(self) -> None:
        """State changes a stand-in in no way; it could change what the stand-in declares."""
        self.stack.pop()

    def _refuse_bytearray(self) -> None:
        """Python reserves and fills as many bytes as such a pickle of ten bytes names; torch writes none."""
        raise DataError(f"{self.path} is refused: it holds a bytearray, which weights do not")

    dispatch: ClassVar[dict[int, Any]] = {
        **pickle._Unpickler.dispatch,
        pickle.BUILD[0]: _drop_state,
        pickle.BYTEARRAY8[0]: _refuse_bytearray,
    }


def check_torch_file(path: Path) -> None:
    """Make sure that a torch file of weights declares no more than it holds, and nothing but weights.

    Raises UntrustedError where its pickle names anything else than tensors, DataError where it is no such file,
    damaged, compressed, or declares sizes that it does not have.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise DataError(f"{path} is refused: it has {path.stat().st_size:,} bytes, more than {LARGEST_FILE:,}")
    with path.open("rb") as stream:
        start = stream.read(4)
    if start == ZIP:
        _check_zip(path)
    elif start[:1] == PICKLE:
        _check_legacy(path)
    else:
        raise DataError(f"{path} is no torch file: it starts with {start!r}")


def zip_records(path: Path, *, compressed: bool = False) -> list[zipfile.ZipInfo]:
    """Return a zip file's directory. Raises DataError for a damaged one, and for a bomb: records that declare more than
    the file holds (with `compressed`, as in a file of code: more than four times as much and 64 MiB).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records, comment = archive.infolist(), archive.comment
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} is a damaged zip file: {error}") from None
    names = {record.filename.lower() for record in records}  # torch finds records whatever their case
    if comment or len(names) < len(records) or not records or min(record.header_offset for record in records):
        # two readers of such a file may see two different contents
        raise DataError(
            f"{path} is refused: its zip directory is not as torch writes it (text around it, or twice a name)"
        )
    declared, size = sum(record.file_size for record in records), path.stat().st_size
    most = 4 * size + 64 * 2**20 if compressed else size
    packed = [record.filename for record in records if record.compress_type != zipfile.ZIP_STORED]
    if declared > most or len(records) > MOST_RECORDS or (packed and not compressed):
        raise DataError(
            f"{path} is refused as a zip bomb: {len(records):,} records declare {declared:,} bytes, the file has "
            f"{size:,}" + (f", and {packed[0]!r} is compressed, which torch never does to weights" if packed else "")
        )
    return records


def _check_zip(path: Path) -> None:
    records = {record.filename: record.file_size for record in zip_records(path)}
    names = [name for name in records if name.endswith("/data.pkl") or name == "data.pkl"]
    if len(names) != 1:
        raise DataError(f"{path} is a zip file, but holds no weights as torch writes them (no data.pkl)")
    if records[names[0]] > LARGEST_PICKLE:
        raise DataError(f"{path} is refused: its structure alone has {records[names[0]]:,} bytes")
    seen = _Seen()
    with zipfile.ZipFile(path) as archive:
        stream = io.BytesIO(_plainly(path, lambda: archive.read(names[0])))
    _plainly(path, _DryRun(stream, seen, path).load)
    folder = names[0].removesuffix("data.pkl")
    for storage in seen.storages.values():
        held, wanted = records.get(f"{folder}data/{storage.key}"), storage.count * storage.item_size
        if held is None or wanted > held:
            raise DataError(
                f"{path} is refused: it declares {wanted:,} bytes of values in {storage.key!r} and holds {held or 0:,}"
            )


def _check_legacy(path: Path) -> None:
    """Check a file of torch before 1.6: pickles of magic number, version, system, state and keys, then the values."""
    seen, size = _Seen(), path.stat().st_size
    with path.open("rb") as stream:
        for _ in range(4):
            _plainly(path, _DryRun(stream, seen, path).load)
        _plainly(path, _DryRun(stream, _Seen(), path).load)
        left = size - stream.tell()
    wanted = sum(storage.count * storage.item_size for storage in seen.storages.values())
    if wanted > left:
        raise DataError(f"{path} is refused: it declares {wanted:,} bytes of values and holds {left:,}")


def _plainly(path: Path, work: Callable[[], Any]) -> Any:
    """Return what `work` returns; whatever a damaged pickle or zip raises becomes a DataError."""
    try:
        return work()
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path} is damaged: {type(error).__name__}: {str(error)[:120]}") from None
