"""Files of strangers: what a torch file declares is checked before torch believes it, and no code in it runs."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from fairaudit.errors import DataError
from fairaudit.models.pickled import UntrustedError, check_torch_file
from fairaudit.models.weights import read_weights
from fairaudit.models.wrapped.opening import open_model

HEADS = "network = 'resnet18'\n[tasks.g]\nclasses = ['a', 'b']\n"


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


class Declared:
    """Pickles as torch pickles a tensor, with any sizes."""

    def __init__(self, count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> None:
        self.count, self.shape, self.stride, self.offset = count, shape, stride, offset

    def __reduce__(self) -> tuple[object, ...]:
        storage = Storage(self.count)
        rest = (storage, self.offset, self.shape, self.stride, False, OrderedDict())
        return (torch._utils._rebuild_tensor_v2, rest)


class Storage:
    """Stands for a storage of `count` floats."""

    def __init__(self, count: int) -> None:
        self.count = count


class Writer(pickle.Pickler):
    """Writes storages as torch does."""

    def persistent_id(self, value: object) -> object:
        if isinstance(value, Storage):
            return ("storage", torch.FloatStorage, "0", "cpu", value.count)
        return None


def torch_zip(path: Path, state: object, values: bytes = bytes(16), compression: int = zipfile.ZIP_STORED) -> Path:
    """Write what torch.save would, around any state."""
    stream = io.BytesIO()
    Writer(stream, protocol=2).dump(state)
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", stream.getvalue())
        archive.writestr("archive/data/0", values)
        archive.writestr("archive/version", "3\n")
    return path


def test_the_forgery_is_read_by_torch(tmp_path: Path) -> None:
    """An honest file made in this way is read: so it is the sizes that are refused below."""
    state = read_weights(torch_zip(tmp_path / "a.pt", {"w": Declared(4, (2, 2), (2, 1))}))
    assert state["w"].shape == (2, 2)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            Declared(10**12, (10**6, 10**6), (10**6, 1)),
            r"declares 4,000,000,000,000 bytes of values in '0' and holds 16",
        ),
        (Declared(4, (10**6, 10**6), (10**6, 1)), r"a tensor of 1,000,000 × 1,000,000 values in memory of 4"),
        (Declared(4, (10**6, 10**6), (0, 0)), r"a tensor of 1,000,000 × 1,000,000 values in memory of 4"),
        (Declared(4, (2, 2), (100, 1)), r"a tensor of 2 × 2 values in memory of 4"),
        (Declared(4, (2,), (1,), offset=3), r"a tensor of 2 values in memory of 4"),
        (Declared(5, (5,), (1,)), r"declares 20 bytes of values in '0' and holds 16"),
        (Declared(-4, (2,), (1,)), r"memory for -4 values"),
        (Declared(4, (-2,), (1,)), r"impossible shape"),
        (Declared(4, (2, 2), (1,)), r"impossible shape"),
    ],
)
def test_absurd_tensors(tmp_path: Path, tensor: Declared, message: str) -> None:
    """Sizes that the file does not hold are named, and no memory is taken for them."""
    with pytest.raises(DataError, match=message):
        read_weights(torch_zip(tmp_path / "a.pt", {"w": tensor}))


def test_zip_bombs(tmp_path: Path) -> None:
    """Compressed records, records over one another, text around the directory: not as torch writes weights."""
    bomb = torch_zip(
        tmp_path / "a.pt", {"w": Declared(2**24, (2**24,), (1,))}, bytes(2**26), compression=zipfile.ZIP_DEFLATED
    )
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"zip bomb: 3 records declare 67,\d+,\d+ bytes, the file has"):
        read_weights(bomb)
    small = torch_zip(tmp_path / "b.pt", {"w": Declared(4, (4,), (1,))}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"'archive/data\.pkl' is compressed"):
        read_weights(small)
    good = torch_zip(tmp_path / "c.pt", {"w": Declared(4, (4,), (1,))})
    data = good.read_bytes()
    good.write_bytes(data[:-2] + struct.pack("<H", 4) + b"more")
    with pytest.raises(DataError, match="zip directory is not as torch writes it"):
        read_weights(good)
    (tmp_path / "d.pt").write_bytes(data[:100])
    with pytest.raises(DataError, match="damaged zip file"):
        read_weights(tmp_path / "d.pt")


def test_a_bomb_of_code_is_refused_even_when_trusted(tmp_path: Path) -> None:
    """TorchScript may compress its code, but not a gigabyte into a megabyte."""
    path = tmp_path / "s.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/code/x.py", bytes(2**28))
        archive.writestr("a/constants.pkl", b"")
    with pytest.raises(DataError, match="zip bomb"):
        open_model(path, _spec(tmp_path, HEADS.split("\n", 1)[1]), trust_code=True)


def _spec(folder: Path, text: str) -> Path:
    path = folder / "model.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_hostile_pickles_run_nothing(tmp_path: Path, legacy: bool) -> None:
    """Not by reading weights, not by opening a model; with --trust-code, and only then, its code does run."""
    target = tmp_path / "ran"
    torch.save({"w": torch.zeros(2), "x": Bomb(target)}, tmp_path / "a.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(DataError, match=r"more than weights.*it names __builtin__\.getattr"):
        read_weights(tmp_path / "a.pt")
    with pytest.raises(Exception, match=r"a pickle that holds more than weights.*--trust-code"):
        open_model(tmp_path / "a.pt", _spec(tmp_path, HEADS))
    assert not target.exists()
    with pytest.raises(DataError, match="no state dict"):
        open_model(tmp_path / "a.pt", _spec(tmp_path, HEADS), trust_code=True)
    assert target.exists()


def test_a_plain_pickle_is_no_torch_file(tmp_path: Path) -> None:
    """Protocol 0 to 5, each with code in it: refused without running it."""
    for protocol in range(6):
        target = tmp_path / f"ran{protocol}"
        (tmp_path / "a.pt").write_bytes(pickle.dumps(Bomb(target), protocol=protocol))
        with pytest.raises(DataError):
            read_weights(tmp_path / "a.pt")
        assert not target.exists()


def test_memory_that_a_pickle_asks_for(tmp_path: Path) -> None:
    """A memo of two billion entries is a few bytes here, as its own reader has no array for it."""
    hostile = b"\x80\x02}" + b"r" + struct.pack("<I", 2**31 - 1) + b"."
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", hostile)
    check_torch_file(path)
    with pytest.raises(DataError, match=r"no state dict|damaged"):
        read_weights(path)


def test_files_of_old_torch(tmp_path: Path) -> None:
    """Values that are not there are missed before torch reserves room for them."""
    state = {"w": torch.arange(6.0).view(2, 3), "h": torch.zeros(3, dtype=torch.float16)}
    path = tmp_path / "old.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert torch.equal(read_weights(path)["w"], state["w"])
    data = path.read_bytes()
    assert data.count(b"K\x06Nt") == 1  # 6 values, no view
    path.write_bytes(data.replace(b"K\x06Nt", b"J\x00\x00\x00\x7fNt"))
    with pytest.raises(DataError, match=r"declares 8,522,825,7\d\d bytes of values and holds"):
        read_weights(path)
    path.write_bytes(data[:-20])
    with pytest.raises(DataError, match="bytes of values and holds"):
        read_weights(path)


def test_safetensors_that_declare_more_than_they_hold(tmp_path: Path) -> None:
    """The header's sizes are compared with the file's, before memory is taken."""
    header = b'{"w":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(DataError, match="damaged"):
        read_weights(path)
    path.write_bytes(struct.pack("<Q", 2**60) + header)
    with pytest.raises(DataError, match="damaged"):
        read_weights(path)


def test_what_honest_files_hold(tmp_path: Path) -> None:
    """Parameters, buffers of all types, tied and sliced tensors, optimizers and nested checkpoints stay readable."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    tied = torch.arange(12.0)
    state = {
        **network.state_dict(),
        "p": nn.Parameter(torch.ones(3)),
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "slice": tied[3:9].view(2, 3).t(),
        "whole": tied,
        "scalar": torch.tensor(3),
        "empty": torch.zeros(0, 3),
    }
    optimizer = torch.optim.Adam(network.parameters()).state_dict()
    for legacy in (False, True):
        torch.save(
            {
                "epoch": 2**70,
                "model": state,
                "optimizer": optimizer,
                "device": torch.device("cpu"),
                "size": torch.Size([2]),
            },
            tmp_path / "a.pt",
            _use_new_zipfile_serialization=not legacy,
        )
        read = read_weights(tmp_path / "a.pt")
        assert all(torch.equal(read[name], value) for name, value in state.items())


def test_an_unknown_global_is_named(tmp_path: Path) -> None:
    """The message says what the pickle wants."""
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(UntrustedError, match=r"torch\.nn\.modules\.linear\.Linear"):
        check_torch_file(tmp_path / "a.pt")


def _peak(path: Path) -> tuple[int, str]:
    """Return the most memory that checking the file took, in bytes, and what was said of it."""
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            check_torch_file(path)
        return tracemalloc.get_traced_memory()[1], str(caught.value)
    finally:
        tracemalloc.stop()


def test_a_bytearray_reserves_nothing(tmp_path: Path) -> None:
    """Twelve bytes that ask the unpickler itself for 128 MiB, filled."""
    (tmp_path / "a.pt").write_bytes(b"\x80\x05\x96" + struct.pack("<Q", 2**27) + b".")
    peak, said = _peak(tmp_path / "a.pt")
    assert peak < 2**24 and "bytearray" in said


def test_a_key_whose_text_fills_memory(tmp_path: Path) -> None:
    """Pairs of pairs of pairs …: small in memory, 2^22 words when written out."""
    pairs = b"X\x04\0\0\0aaaaq\0" + b"".join(b"h" + bytes([i]) + b"\x86q" + bytes([i + 1]) for i in range(22))
    pid = b"\x80\x02(X\x07\0\0\0storageX\x05\0\0\0Float" + pairs + b"X\x03\0\0\0cpuK\x04tQ."
    (tmp_path / "a.pt").write_bytes(pid)
    peak, said = _peak(tmp_path / "a.pt")
    assert peak < 2**24 and "names memory in a way that torch does not" in said


def test_state_cannot_change_what_was_declared(tmp_path: Path) -> None:
    """BUILD on a storage's stand-in, which would make its count 0 after it was declared as a million."""
    stream = io.BytesIO()
    Writer(stream, protocol=2).dump(Storage(1_000_000))
    pid = stream.getvalue()[:-1] + b"}X\x05\0\0\0countK\x00sb."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pid)
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(DataError, match="declares 4,000,000 bytes of values in '0' and holds 16"):
        check_torch_file(tmp_path / "a.pt")


def test_two_structures_that_differ_in_case(tmp_path: Path) -> None:
    """torch finds records whatever their case: it would read the pickle that was not checked."""
    path = torch_zip(tmp_path / "a.pt", {"w": Declared(4, (2, 2), (2, 1))})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/DATA.PKL", b"anything")
    with pytest.raises(DataError, match="twice a name"):
        check_torch_file(path)
