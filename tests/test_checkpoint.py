"""Checkpoints: whole or absent, read without running anything, refused in plain words."""

import errno
import json
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from fairaudit.errors import DataError
from fairaudit.models import checkpoint as checkpoint_module
from fairaudit.models.backbones import build_backbone
from fairaudit.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fairaudit.models.classifier import FaceClassifier
from fairaudit.models.loop import Run
from fairaudit.spec import HeadSpec, ModelSpec

torch.set_num_threads(1)
SPEC = ModelSpec(backbone="small_cnn", image_size=32, shared=8)
CLASSES = {"race": ("B", "A"), "gender": ("Male", "Female")}


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    """A checkpoint of a random network."""
    torch.manual_seed(0)
    model = FaceClassifier(build_backbone(SPEC), CLASSES, shared=8).eval()
    history = pd.DataFrame({"stage": ["all"], "epoch": [1], "selected": [True]})
    meta = {"ordered": [], "flip_test": True, "name": "x"}
    return save_checkpoint(model, SPEC, meta, history, {"train": ["b" * 16, "a" * 16], "val": []}, tmp_path / "c")


def edit(checkpoint: Checkpoint, **changes: object) -> None:
    """Change keys of model.json."""
    path = checkpoint.folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_round_trip(saved: Checkpoint) -> None:
    """What is read back is the same network, with its tasks in their order and what it was trained on."""
    again = load_checkpoint(saved.folder)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(saved.model(x).values(), again.model(x).values(), strict=True))
    assert list(again.classes.items()) == list(CLASSES.items())
    assert again.trained_on == {"train": {"a" * 16, "b" * 16}, "val": frozenset()}
    assert again.flip_test
    assert again.hash == saved.hash
    assert not again.model.training
    assert again.history["selected"].tolist() == [True]


def test_a_folded_network_comes_back_folded(tmp_path: Path) -> None:
    """Folded batch norms change parameter names; the description says so and loading follows."""
    torch.manual_seed(0)
    model = FaceClassifier(build_backbone(SPEC), CLASSES, shared=8).eval().fold_batch_norm()
    again = save_checkpoint(model, SPEC, {}, pd.DataFrame({"epoch": [1]}), {}, tmp_path / "c")
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x)["race"], again.model(x)["race"])
    assert again.model.folded


RICH = ModelSpec(
    backbone="simple_cnn",
    widths=(8, 12),
    image_size=32,
    color="grey",
    shared=(9, 8),
    activation="gelu",
    heads={"age": HeadSpec(kind="coral", years="huber", hidden=(6,), activation="tanh", dropout=0.1)},
)
RICH_CLASSES = {"age": ("0-9", "10-19", "20+"), "gender": ("Male", "Female")}


@pytest.fixture
def rich(tmp_path: Path) -> Checkpoint:
    """A checkpoint with everything that the spec can change about the network."""
    torch.manual_seed(0)
    model = FaceClassifier(
        build_backbone(RICH), RICH_CLASSES, shared=RICH.shared_widths, activation="gelu", heads=RICH.heads
    )
    return save_checkpoint(model.eval(), RICH, {}, pd.DataFrame({"epoch": [1]}), {}, tmp_path / "rich")


def test_heads_layers_and_colour_come_back(rich: Checkpoint) -> None:
    """Ordinal heads, years, layers of each head, widths and grey pictures are recorded and used."""
    again = load_checkpoint(rich.folder)
    assert again.model.color == "grey"
    assert again.meta["predicts_years"]
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        one, two = (model(model.prepare(pictures)) for model in (rich.model, again.model))
    assert list(two) == ["age", "gender", "age_years"]
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert str(again.model.heads) == str(rich.model.heads)
    assert str(again.model.shared) == str(rich.model.shared)


def test_a_checkpoint_written_before_heads_had_layers_is_read(saved: Checkpoint) -> None:
    """The description of an earlier version lacks the newer keys: it means what it meant."""
    older = {key: value for key, value in saved.meta["architecture"].items()
             if key not in ("activation", "heads", "widths", "color")}  # fmt: skip
    edit(saved, architecture=older)
    again = load_checkpoint(saved.folder)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(saved.model(x)["race"], again.model(x)["race"])
    assert not again.meta["predicts_years"]


def test_saving_is_all_or_nothing(saved: Checkpoint, tmp_path: Path) -> None:
    """A failure while writing leaves no folder and no temporary file."""
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(saved.model, SPEC, {"x": float("nan")}, pd.DataFrame(), {}, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_missing_parts_are_named(saved: Checkpoint, tmp_path: Path) -> None:
    """A folder that is absent, empty or lacks its weights is refused with what is missing."""
    with pytest.raises(DataError, match="not a folder"):
        load_checkpoint(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"model\.json and model\.safetensors missing"):
        load_checkpoint(tmp_path / "empty")
    (saved.folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"model\.safetensors missing"):
        load_checkpoint(saved.folder)


def test_a_pickle_dressed_as_weights_is_refused(saved: Checkpoint) -> None:
    """Neither a pickle nor a torch file under the name of a safetensors file is ever opened."""
    path = saved.folder / "model.safetensors"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DataError, match="no safetensors file"):
        load_checkpoint(saved.folder)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(DataError, match="a pickle is never opened"):
        load_checkpoint(saved.folder)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no safetensors file"):
        load_checkpoint(saved.folder)


def test_cut_off_weights_are_refused(saved: Checkpoint) -> None:
    """A file that ends too early is found before it is used."""
    path = saved.folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="no safetensors file"):
        load_checkpoint(saved.folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("zoom_test", [1e-9]), ("zoom_test", [1.0] * 9), ("zoom_test", "x"), ("flip_test", "maybe"), ("ordered", 5)],
)
def test_how_it_is_used_is_checked(saved: Checkpoint, key: str, value: object) -> None:
    """What a stranger wrote there is refused before it costs time or ends in a traceback."""
    edit(saved, **{key: value})
    with pytest.raises(DataError, match=key):
        load_checkpoint(saved.folder)


def test_how_it_is_used_is_read_as_it_was_checked(saved: Checkpoint) -> None:
    """A "no" in quotes is no yes, and a size in quotes is a number."""
    edit(saved, flip_test="no", zoom_test=["0.93"])
    again = load_checkpoint(saved.folder)
    assert again.flip_test is False
    assert again.zoom_test == (0.93,)


@pytest.mark.parametrize("text", ["{", "[1]", "\xff", "[" * 100_000], ids=["cut", "list", "bytes", "deep"])
def test_damaged_json_is_refused(saved: Checkpoint, text: str) -> None:
    """A model.json that is no JSON table is a data error."""
    (saved.folder / "model.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match="damaged"):
        load_checkpoint(saved.folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 99}, "format 99"),
        ({"architecture": None}, "architecture"),
        ({"classes": {"race": ["A", "B"]}}, "tasks` and `classes"),
        ({"classes": {"race": ["A", "A"], "gender": ["m", "f"]}}, "different classes"),
        ({"classes": {"race": ["A", "B", "C"], "gender": ["m", "f"]}}, r"heads\.0\.bias: \[2\], expected \[3\]"),
        ({"tasks": ["race"]}, "tensors differ"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(saved: Checkpoint, changes: dict, words: str) -> None:
    """Wrong formats, missing keys, and classes that are not the weights' are named."""
    edit(saved, **changes)
    with pytest.raises(DataError, match=words):
        load_checkpoint(saved.folder)


@pytest.mark.parametrize(
    "change", [{"shared": 10**9}, {"image_size": 10**6}, {"trainable_blocks": -1}, {"backbone": "os.system"}, {"x": 1}]
)
def test_absurd_architectures_are_refused_before_memory_is_taken(saved: Checkpoint, change: dict) -> None:
    """Sizes beyond any face classifier, unknown keys and unknown backbones stop at the description."""
    edit(saved, architecture={**saved.meta["architecture"], **change})
    with pytest.raises(DataError, match=r"model\.json"):
        load_checkpoint(saved.folder)


def test_a_named_giant_takes_no_memory(saved: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description that names a network of 645 million parameters is compared with the file by shape alone."""
    built: list[set[str]] = []

    def noted(*given: Any, **named: Any) -> Any:
        made = build_backbone(*given, **named)
        built.append({value.device.type for value in made.blocks.parameters()})
        return made

    monkeypatch.setattr(checkpoint_module, "build_backbone", noted)
    load_checkpoint(saved.folder)
    assert built == [{"meta"}, {"cpu"}]
    for name in ("regnet_y_128gf", "vit_h_14"):
        edit(saved, architecture={**saved.meta["architecture"], "backbone": name, "image_size": 224})
        with pytest.raises(DataError, match="tensors differ"):
            load_checkpoint(saved.folder)
    assert built[2:] == [{"meta"}] * 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": {"race": {"kind": "softmax"}}}, "unknown task"),
        ({"heads": {"age": {"kind": "evil"}}}, r"architecture\.heads\.age\.kind"),
        ({"heads": {"age": {"hidden": [8000] * 8}}}, "heads alone are larger"),
        ({"widths": [8000, 8000]}, "are larger"),
        ({"widths": [-1]}, "widths"),
        ({"shared": [8000] * 8}, "heads alone are larger"),
        ({"activation": "os.system"}, "activation"),
        ({"color": "infrared"}, "color"),
        ({"heads": {"age": {"kind": "softmax"}}}, "tensors differ"),
        ({"backbone": "small_cnn"}, "simple_cnn"),
    ],
)
def test_descriptions_that_do_not_fit_the_network_are_refused(rich: Checkpoint, change: dict, words: str) -> None:
    """Unknown heads, kinds and colours, sizes beyond the weights file, and another kind of head than the weights'."""
    edit(rich, architecture={**rich.meta["architecture"], **change})
    with pytest.raises(DataError, match=words):
        load_checkpoint(rich.folder)


def test_a_tensor_of_another_shape_is_refused(saved: Checkpoint) -> None:
    """Weights of another network are refused by their header, with name and shapes."""
    path = saved.folder / "model.safetensors"
    state = load_file(path)
    state["heads.1.weight"] = torch.zeros(7, 7)
    save_file(state, path)
    with pytest.raises(DataError, match=r"heads\.1\.weight: \[7, 7\], expected \[2, 8\]"):
        load_checkpoint(saved.folder)


def test_heads_larger_than_the_weights_file_are_refused_before_memory_is_taken(saved: Checkpoint) -> None:
    """A small description of huge heads cannot make the reader take gigabytes."""
    classes = [str(number) for number in range(10_000)]
    tasks = [f"t{number}" for number in range(100)]
    edit(saved, tasks=tasks, classes=dict.fromkeys(tasks, classes))
    with pytest.raises(DataError, match="heads alone are larger"):
        load_checkpoint(saved.folder)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_of_the_disk(saved: Checkpoint, tmp_path: Path) -> None:
    """Neither the state nor the weights hide it behind an error of their own; nothing half-written stays."""
    run = Run(key="k", path=tmp_path / "state" / "state.pt", best={"a": torch.zeros(10**6)})
    with no_file_above(200_000):
        with pytest.raises(OSError) as state:
            run.save()
        with pytest.raises(OSError) as weights:
            save_checkpoint(saved.model, SPEC, {}, pd.DataFrame(), {}, tmp_path / "new")
    assert {state.value.errno, weights.value.errno} == {errno.EFBIG}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "state"]
    assert list((tmp_path / "state").iterdir()) == []
