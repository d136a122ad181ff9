from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from msfser_cli.errors import ModelError
from msfser_cli.model import pooling as module
from msfser_cli.model.pooling import Pooling, PoolingConfig
from msfser_cli.settings import ENCODER_LAYERS, POOLINGS

WIDTH, STATES = 6, 4
EVERY = [(layers, pooling) for layers in ENCODER_LAYERS for pooling in POOLINGS]


def new(layers: str, pooling: str, *, learned: bool = False) -> Pooling:
    torch.manual_seed(0)
    made = Pooling(PoolingConfig(hidden_dim=WIDTH, states=STATES, layers=layers, pooling=pooling))
    if learned:
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter)
    return made


def speech(frames: int, rows: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, frames, WIDTH, generator=generator) for _ in range(STATES)]


def everywhere(states: list[Tensor]) -> Tensor:
    return torch.ones(states[0].shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_new_pooling_is_the_plain_mean_and_deviation(pooling: str) -> None:
    states = speech(9, rows=3)
    plain = {"last": states[-1], "all": torch.stack(states).mean(dim=0)}
    for layers, frames in plain.items():
        expected = torch.cat([frames.mean(dim=1), frames.std(dim=1, correction=0)], dim=1)
        torch.testing.assert_close(new(layers, pooling)(states, everywhere(states)), expected)


@pytest.mark.parametrize(("layers", "pooling"), EVERY)
def test_the_parts_of_an_utterance_together_are_the_whole_of_it(layers: str, pooling: str) -> None:
    states, made = speech(11, rows=2), new(layers, pooling, learned=True)
    cuts = [(0, 3), (3, 4), (4, 11)]
    parts = [made.statistics([s[:, a:b] for s in states], everywhere(states)[:, a:b]) for a, b in cuts]
    whole = made(states, everywhere(states))
    torch.testing.assert_close(module.merged(torch.stack(parts, dim=-2)), whole)
    assert (module.merged(parts[0].unsqueeze(-2)) - whole).abs().max() > 0.05


def test_learned_weights_choose_among_layers_and_frames() -> None:
    states = speech(9, rows=3)
    made = new("all", "attentive", learned=True)
    with torch.no_grad():
        made.layer_logits.copy_(torch.tensor([-50.0, 50.0, -50.0, -50.0]))
    alone = new("last", "attentive", learned=True)
    alone.load_state_dict({name: t for name, t in made.state_dict().items() if name != "layer_logits"})
    torch.testing.assert_close(made(states, everywhere(states)), alone(states[1:2], everywhere(states)))
    plain = new("last", "mean-std")(states[1:2], everywhere(states))
    assert (alone(states[1:2], everywhere(states)) - plain).abs().max() > 0.05


def test_attentive_statistics_are_the_weighted_mean_and_deviation() -> None:
    """The same equations, written out frame by frame."""
    states = speech(5)
    made = new("last", "attentive", learned=True)
    frames = states[-1][0]
    logits = [made.attention_out(torch.tanh(made.attention_in(frame))).item() for frame in frames]
    weights = torch.softmax(torch.tensor(logits), dim=0)
    mean = sum(w * f for w, f in zip(weights, frames, strict=True))
    square = sum(w * f**2 for w, f in zip(weights, frames, strict=True))
    expected = torch.cat([mean, (square - mean**2).sqrt()])
    torch.testing.assert_close(made(states, everywhere(states))[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("layers", "pooling"), EVERY)
@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_padding_and_the_batch_change_nothing(layers: str, pooling: str, lengths: list[int], seed: int) -> None:
    made = new(layers, pooling, learned=True)
    alone = [speech(frames, seed=seed + i) for i, frames in enumerate(lengths)]
    longest = max(lengths) + 2
    together = [torch.full((len(lengths), longest, WIDTH), float("nan")) for _ in range(STATES)]
    mask = torch.zeros(len(lengths), longest, dtype=torch.bool)
    for i, states in enumerate(alone):
        mask[i, : lengths[i]] = True
        for layer, state in zip(together, states, strict=True):
            layer[i, : lengths[i]] = state[0]
    expected = torch.cat([made(states, everywhere(states)) for states in alone])
    torch.testing.assert_close(made(together, mask), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("layers", "pooling"), EVERY)
def test_gradients_are_finite_for_constant_frames_and_reach_all_states_and_parameters(layers: str, pooling: str) -> None:
    made = new(layers, pooling, learned=True)
    states = [torch.cat([state, torch.ones(1, 7, WIDTH)]) for state in speech(7)]
    mask = everywhere(states)
    mask[:, -1] = False
    for state in states:
        state[:, -1] = float("nan")
        state.requires_grad_()
    made(states, mask).square().sum().backward()
    for state in states if layers == "all" else states[-1:]:
        assert state.grad is not None
        assert torch.isfinite(state.grad).all()
        assert (state.grad[0] != 0).any()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"hidden_dim": 0}, "hidden_dim must be"),
        ({"hidden_dim": 10**12}, "hidden_dim must be"),
        ({"states": True}, "states must be"),
        ({"layers": "first"}, "layers must be one of last, all"),
        ({"pooling": ["mean-std"]}, "pooling must be one of"),
        ({"waveform_mean": float("nan")}, "waveform_mean must be a finite number"),
        ({"waveform_std": 0}, "waveform_std must be above 0"),
        ({"more": 1}, "exactly the fields"),
        ({"hidden_dim": WIDTH + 1}, "needs F32"),
    ],
)
def test_a_forged_config_is_refused(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    module.save(tmp_path, new("all", "attentive"))
    path = tmp_path / "pooling.json"
    document = json.loads(path.read_text())
    document["pooling"] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=rf"pooling\.(json|safetensors): .*{problem}"):
        module.load(tmp_path)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    assert module.load(tmp_path) is None
    for layers, pooling in EVERY:
        made = new(layers, pooling, learned=True)
        module.save(tmp_path, made)
        loaded = module.load(tmp_path)
        assert loaded is not None
        assert loaded.config == made.config
        states = speech(5)
        assert torch.equal(loaded(states, everywhere(states)), made(states, everywhere(states)))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    def poison(tensors: dict[str, Tensor]) -> None:
        tensors["attention_in.bias"][0] = float("nan")

    def shrink(tensors: dict[str, Tensor]) -> None:
        tensors["layer_logits"] = tensors["layer_logits"][:2]

    def remove(tensors: dict[str, Tensor]) -> None:
        del tensors["attention_out.weight"]

    changes: list[tuple[Callable[[dict[str, Tensor]], None], str]] = [
        (poison, "not finite"), (shrink, "pooling.json needs"), (remove, "does not fit pooling.json"),
    ]  # fmt: skip
    path = tmp_path / "pooling.safetensors"
    for change, problem in changes:
        module.save(tmp_path, new("all", "attentive"))
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)
        with pytest.raises(ModelError, match=problem):
            module.load(tmp_path)
    path.write_bytes(pickle.dumps({"layer_logits": 1}))
    with pytest.raises(ModelError, match="not a readable safetensors"):
        module.load(tmp_path)
    path.unlink()
    with pytest.raises(ModelError, match=r"pooling\.safetensors"):
        module.load(tmp_path)
    module.save(tmp_path, new("all", "attentive"))
    (tmp_path / "pooling.json").unlink()
    with pytest.raises(ModelError, match=r"pooling\.json: cannot be read"):
        module.load(tmp_path)
