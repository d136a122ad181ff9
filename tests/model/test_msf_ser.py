from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.losses import training_loss
from msfser_cli.model.msf_ser import MsfSer

Batch = tuple[Tensor, Tensor, Tensor]
GOLDEN = Path(__file__).parents[1] / "golden" / "msf_ser_tiny"


def _model(config: MsfSerConfig) -> MsfSer:
    """A model in evaluation mode whose FiLM is not the identity."""
    torch.manual_seed(1)
    model = MsfSer(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def test_shapes_and_ranges(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    output = _model(dataclasses.replace(config, low=1.0, high=7.0))(*batch(16))
    assert output.scores.shape == (16, 3)
    assert output.gates.shape == (16, 3)
    assert output.routes.shape == (16, 3, 4)
    assert output.balance.shape == ()
    assert ((output.scores >= 1) & (output.scores <= 7)).all()


def test_order_and_company_change_nothing(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    model, inputs = _model(config), batch(16)
    whole = model(*inputs)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    shuffled = model(*(t[order] for t in inputs))
    for name in ("scores", "gates", "routes"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(whole, name)[order], atol=1e-6, rtol=0)
        alone = torch.cat([getattr(model(*(t[i : i + 1] for t in inputs)), name) for i in range(16)])
        torch.testing.assert_close(alone, getattr(whole, name), atol=1e-6, rtol=0)


def test_what_stands_in_the_place_of_an_absent_stream_is_not_used(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    model, (acoustic, texts, present) = _model(config), batch(16)
    nan = torch.tensor(float("nan"))
    torn = model(torch.where(present[:, :1], acoustic, nan), torch.where(present[:, 1:, None], texts, nan), present)
    assert torch.equal(torn.scores, model(acoustic, texts, present).scores)


def test_an_empty_batch_gives_an_empty_answer(config: MsfSerConfig) -> None:
    output = _model(config)(torch.zeros(0, 12), torch.zeros(0, 3, 7), torch.zeros(0, 4, dtype=torch.bool))
    assert output.scores.shape == (0, 3)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_wrong_shapes_are_refused_by_name(config: MsfSerConfig, batch: Callable[..., Batch], wrong: int) -> None:
    inputs = list(batch(16))
    inputs[wrong] = inputs[wrong][..., :-1]
    with pytest.raises(ValueError, match=("acoustic", "texts", "present")[wrong]):
        _model(config)(*inputs)


def test_gradients_reach_every_parameter(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    model = MsfSer(config)
    labels = torch.rand(16, 3, generator=torch.Generator().manual_seed(2))
    training_loss(model(*batch(16)), labels).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.model
def test_it_can_learn_eight_utterances_by_heart(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    torch.manual_seed(0)
    model, inputs = MsfSer(config), batch(8)
    labels = 0.1 + 0.8 * torch.rand(8, 3)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(200):
        optimiser.zero_grad()
        loss = training_loss(model(*inputs), labels)
        loss.backward()
        optimiser.step()
    assert training_loss(model(*inputs), labels, balance_weight=0).item() < 0.01


def test_standardisation_takes_only_what_is_present(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    model, (acoustic, texts, present) = MsfSer(config), batch(16)
    acoustic[:, 0] = 3.0  # a component that never varies
    nan = torch.tensor(float("nan"))
    model.standardise_by(torch.where(present[:, :1], acoustic, nan), torch.where(present[:, 1:, None], texts, nan), present)
    heard = acoustic[present[:, 0]]
    torch.testing.assert_close(model.acoustic_mean, heard.mean(dim=0))
    torch.testing.assert_close(model.acoustic_std[1:], heard.std(dim=0, correction=0)[1:])
    assert model.acoustic_std[0] == 1
    torch.testing.assert_close(model.text_mean[2], texts[present[:, 3], 2].mean(dim=0))


def test_golden() -> None:
    """A stored model says what it has always said."""
    record = {name: torch.tensor(value) for name, value in json.loads((GOLDEN / "record.json").read_text("utf-8")).items()}
    output = weights.load(GOLDEN)(record["acoustic"], record["texts"], record["present"])
    for name in ("scores", "gates", "routes", "balance"):
        torch.testing.assert_close(getattr(output, name), record[name], atol=1e-5, rtol=0)
