from __future__ import annotations

import dataclasses

import torch

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.gated_fusion import GatedFusion


def _all_patterns() -> torch.Tensor:
    return torch.tensor([[bool(i >> bit & 1) for bit in range(3)] for i in range(8)])


def test_absent_gates_are_exactly_zero_and_the_rest_sum_to_one(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    present = _all_patterns()
    _, gates = GatedFusion(config)(torch.randn(8, 3, 7) * 50, present)
    assert (gates[~present] == 0).all()
    assert (gates[present] > 0).all()
    torch.testing.assert_close(gates.sum(dim=1), present.any(dim=1).float())


def test_an_absent_stream_has_no_say(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    fusion, present = GatedFusion(config), _all_patterns()
    texts = torch.randn(8, 3, 7)
    other = torch.where(present.unsqueeze(-1), texts, torch.randn(8, 3, 7) * 100)
    for a, b in zip(fusion(texts, present), fusion(other, present), strict=True):
        assert torch.equal(a, b)


def test_a_single_stream_passes_through_whole(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    fusion, texts = GatedFusion(config), torch.randn(1, 3, 7)
    fused, gates = fusion(texts, torch.tensor([[False, True, False]]))
    assert gates.tolist() == [[0.0, 1.0, 0.0]]
    torch.testing.assert_close(fused, torch.nn.functional.gelu(fusion.projections[1](texts[:, 1])))


def test_no_text_is_a_vector_of_its_own_and_learns(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    fusion = GatedFusion(config)
    torch.nn.init.normal_(fusion.no_text)
    fused, gates = fusion(torch.randn(2, 3, 7), torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(fused, fusion.no_text.expand(2, -1))
    assert (gates == 0).all()
    fused.sum().backward()
    assert fusion.no_text.grad is not None
    assert (fusion.no_text.grad == 2).all()


def test_dropout_rests_outside_training(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    fusion = GatedFusion(dataclasses.replace(config, dropout=0.5)).eval()
    texts, present = torch.randn(4, 3, 7), torch.ones(4, 3, dtype=torch.bool)
    assert torch.equal(fusion(texts, present)[0], fusion(texts, present)[0])
