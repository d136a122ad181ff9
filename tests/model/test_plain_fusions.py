from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from msfser_cli.model import weights
from msfser_cli.model.config import FUSIONS, MsfSerConfig
from msfser_cli.model.losses import training_loss
from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.model.plain_fusions import AttentionFusion, dim_like_fm_moe
from msfser_cli.schemas import STREAMS

Batch = tuple[Tensor, Tensor, Tensor]


def _model(config: MsfSerConfig, **changes: object) -> MsfSer:
    torch.manual_seed(1)
    return MsfSer(dataclasses.replace(config, **changes)).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_has_the_same_interface(config: MsfSerConfig, batch: Callable[..., Batch], fusion: str) -> None:
    model, inputs = _model(config, fusion=fusion), batch(16)
    output = model(*inputs)
    assert output.scores.shape == (16, 3)
    torch.testing.assert_close(output.routes.sum(dim=-1), torch.ones(16, 3))
    alone = torch.cat([model(*(t[i : i + 1] for t in inputs)).scores for i in range(16)])
    torch.testing.assert_close(alone, output.scores, atol=1e-6, rtol=0)
    assert (output.balance == 0) == (fusion != "fm-moe")


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_gradients_reach_every_parameter(config: MsfSerConfig, batch: Callable[..., Batch], fusion: str) -> None:
    model = _model(config, fusion=fusion)
    training_loss(model(*batch(16)), torch.rand(16, 3)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_both_vectors_count(config: MsfSerConfig, batch: Callable[..., Batch], fusion: str) -> None:
    model, (acoustic, texts, present) = _model(config, fusion=fusion), batch(16)
    before = model(acoustic, texts, present).scores
    heard, said = present[:, 0], present[:, 1:].any(dim=1)
    assert (model(acoustic + 1, texts, present).scores[heard] != before[heard]).any(dim=1).all()
    assert (model(acoustic, texts + 1, present).scores[said] != before[said]).any(dim=1).all()


def test_each_dimension_attends_in_its_own_way(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    weights = AttentionFusion(config).attend(torch.randn(5, 10), torch.randn(5, 8))
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(5, 3))
    assert not torch.allclose(weights[:, 0], weights[:, 1])


SIZES = [(64, 64, 4), (64, 64, 1), (32, 32, 4), (128, 256, 4), (256, 256, 8)]


@pytest.mark.parametrize("fusion", ["concat", "attention"])
@pytest.mark.parametrize(("hidden_dim", "semantic_dim", "experts"), SIZES)
def test_a_fusion_has_the_size_of_fm_moe(fusion: str, hidden_dim: int, semantic_dim: int, experts: int) -> None:
    config = MsfSerConfig(
        acoustic_dim=4, text_dim=4, fusion=fusion, hidden_dim=hidden_dim, semantic_dim=semantic_dim, expert_dim=hidden_dim // 2,
        experts=experts,
    )  # fmt: skip
    of_fm_moe, ours = (
        sum(p.numel() for p in MsfSer(c).fusion.parameters())
        for c in (dataclasses.replace(config, fusion="fm-moe"), dataclasses.replace(config, fusion_dim=dim_like_fm_moe(config)))
    )
    assert ours == pytest.approx(of_fm_moe, rel=0.02)


@pytest.mark.parametrize("fusion", ["concat", "attention"])
def test_a_head_that_does_not_say_how_wide_its_fusion_is_stays_readable(
    config: MsfSerConfig, batch: Callable[..., Batch], tmp_path: Path, fusion: str
) -> None:
    """Its fusion is as wide as all experts together."""
    model = _model(config, fusion=fusion, fusion_dim=config.experts * config.expert_dim)
    weights.save(tmp_path, model)
    document = json.loads((tmp_path / "config.json").read_text())
    del document["model"]["fusion_dim"]
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert torch.equal(weights.load(tmp_path)(*batch(4)).scores, model(*batch(4)).scores)


@pytest.mark.parametrize("left_out", STREAMS)
def test_a_stream_that_is_left_out_counts_as_absent(config: MsfSerConfig, batch: Callable[..., Batch], left_out: str) -> None:
    acoustic, texts, present = batch(16)
    kept = tuple(s for s in STREAMS if s != left_out)
    without = _model(config, streams=kept)
    everything = MsfSer(config).eval()
    everything.load_state_dict(without.state_dict())
    absent = present.clone()
    absent[:, STREAMS.index(left_out)] = False
    ours, theirs = without(acoustic, texts, present), everything(acoustic, texts, absent)
    assert torch.equal(ours.scores, theirs.scores)
    if left_out != "acoustic":
        assert (ours.gates[:, STREAMS.index(left_out) - 1] == 0).all()
