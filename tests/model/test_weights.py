from __future__ import annotations

import contextlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from msfser_cli.errors import ModelError
from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def model(config: MsfSerConfig) -> MsfSer:
    torch.manual_seed(0)
    return MsfSer(config).eval()


@pytest.fixture
def folder(model: MsfSer, tmp_path: Path) -> Path:
    weights.save(tmp_path / "checkpoint", model, card={"trained on": "nothing"})
    return tmp_path / "checkpoint"


def _edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    document = json.loads(path.read_text("utf-8"))
    document["model"] |= changes
    path.write_text(json.dumps(document), "utf-8")


def _edit_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_what_is_loaded_is_what_was_saved(model: MsfSer, folder: Path, batch: Callable[..., Batch]) -> None:
    loaded = weights.load(folder)
    assert loaded.config == model.config
    assert weights.load_card(folder) == {"trained on": "nothing"}
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert torch.equal(loaded(*batch(16)).scores, model(*batch(16)).scores)
    assert not loaded.training
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_twice_gives_the_same_bytes(model: MsfSer, folder: Path, tmp_path: Path) -> None:
    weights.save(tmp_path / "again", weights.load(folder), card={"trained on": "nothing"})
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


class _Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "last.ckpt", "model.pkl"])
def test_pickles_are_refused_unread(tmp_path: Path, folder: Path, name: str) -> None:
    canary = tmp_path / "canary"
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(ModelError, match=rf"{name}: .*run code"):
        weights.load(folder)
    with pytest.raises(ModelError, match=rf"{name}: .*run code"):
        weights.load(folder / name)
    (folder / name).rename(folder / "model.safetensors")
    with pytest.raises(ModelError, match="not a readable safetensors"):
        weights.load(folder)
    assert not canary.exists()


def test_a_missing_folder_or_file_is_named(folder: Path) -> None:
    with pytest.raises(ModelError, match="elsewhere: not a folder"):
        weights.load(folder.parent / "elsewhere")
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json: cannot be read"):
        weights.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors: missing"):
        weights.load(folder)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_dim": 11}, "needs F32"),
        ({"experts": 0}, "experts must be"),
        ({"acoustic_dim": 10**12}, "acoustic_dim must be"),
        ({"hidden_dim": 4096, "semantic_dim": 4096, "expert_dim": 4096, "experts": 64}, "needs F32"),
        ({"extra": 1}, "unknown field extra"),
        ({"dropout": float("nan")}, "dropout must be"),
    ],
)
def test_a_forged_config_is_refused_before_anything_is_allocated(folder: Path, change: dict[str, Any], problem: str) -> None:
    _edit_config(folder, **change)
    with pytest.raises(ModelError, match=problem):
        weights.load(folder)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ("[1]", "not a config of msf-ser"),
        ('{"format": "msf-ser", "version": 99}', "version 99"),
        ('{"format": "msf-ser", "version": 1, "model": 3}', "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        (" " * 1_000_001, "not a config, it has more than"),
    ],
)
def test_a_damaged_config_is_refused(folder: Path, text: str, problem: str) -> None:
    (folder / "config.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=problem):
        weights.load(folder)


def test_tensors_that_do_not_fit_are_refused(folder: Path) -> None:
    def remove(tensors: dict[str, Tensor]) -> None:
        del tensors["no_speech"]

    def add(tensors: dict[str, Tensor]) -> None:
        tensors["surprise"] = torch.zeros(1)

    def halve(tensors: dict[str, Tensor]) -> None:
        tensors["projection.weight"] = tensors["projection.weight"].half()

    def poison(tensors: dict[str, Tensor]) -> None:
        tensors["projection.weight"][0, 0] = float("inf")

    def flatten(tensors: dict[str, Tensor]) -> None:
        tensors["text_std"][1, 0] = 0

    original = (folder / "model.safetensors").read_bytes()
    for change, problem in (
        (remove, "missing .*no_speech"),
        (add, "unexpected .*surprise"),
        (halve, r"projection\.weight is F16"),
        (poison, r"projection\.weight has numbers that are not finite"),
        (flatten, "text_std must be above 0"),
    ):
        _edit_tensors(folder, change)
        with pytest.raises(ModelError, match=problem):
            weights.load(folder)
        (folder / "model.safetensors").write_bytes(original)
    weights.load(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_refused(folder: Path, cut: float) -> None:
    path = folder / "model.safetensors"
    original = path.read_bytes()
    try:
        path.write_bytes(original[: int(len(original) * cut)])
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            weights.load(folder)
    finally:
        path.write_bytes(original)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_header_never_becomes_another_error(folder: Path, data: st.DataObject) -> None:
    """Any byte of the header changed: a ModelError, or (a change in what is not read) the same finite model."""
    path = folder / "model.safetensors"
    original = path.read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")
    torn = bytearray(original)
    torn[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    try:
        path.write_bytes(torn)
        with contextlib.suppress(ModelError):
            assert all(torch.isfinite(t).all() for t in weights.load(folder).state_dict().values())
    finally:
        path.write_bytes(original)
