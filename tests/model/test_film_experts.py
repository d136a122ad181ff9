from __future__ import annotations

import dataclasses

import pytest
import torch

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.film_experts import FilmExperts, balance


def test_film_is_the_identity_in_a_new_model(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    layer, voice = FilmExperts(config), torch.randn(5, 10)
    gamma, beta = layer.modulation(torch.randn(5, 8))
    assert (gamma == 0).all()
    assert (beta == 0).all()
    torch.nn.init.zeros_(layer.router.weight[:, 10:])  # so that the routes, too, hear only the voice
    assert torch.equal(layer(voice, torch.randn(5, 8))[0], layer(voice, torch.randn(5, 8))[0])


def test_text_changes_how_the_experts_hear_the_voice_once_film_has_learned(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    layer, voice = FilmExperts(config), torch.randn(5, 10)
    torch.nn.init.normal_(layer.film.weight)
    torch.nn.init.zeros_(layer.router.weight[:, 10:])
    assert not torch.allclose(layer(voice, torch.randn(5, 8))[0], layer(voice, torch.randn(5, 8))[0])


def test_each_dimension_has_a_route_of_its_own(config: MsfSerConfig) -> None:
    torch.manual_seed(0)
    routes = FilmExperts(config).route(torch.randn(5, 10), torch.randn(5, 8))
    assert routes.shape == (5, 3, 4)
    torch.testing.assert_close(routes.sum(dim=-1), torch.ones(5, 3))
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        assert (routes[:, a] - routes[:, b]).abs().max() > 0.01


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_top_k_leaves_exactly_k_experts(config: MsfSerConfig, top_k: int) -> None:
    torch.manual_seed(0)
    layer = FilmExperts(dataclasses.replace(config, top_k=top_k))
    routes = layer.route(torch.randn(5, 10), torch.randn(5, 8))
    assert ((routes > 0).sum(dim=-1) == top_k).all()
    torch.testing.assert_close(routes.sum(dim=-1), torch.ones(5, 3))


def test_the_output_is_the_routed_sum_of_the_experts(config: MsfSerConfig) -> None:
    """The same equations, written out expert by expert."""
    torch.manual_seed(0)
    layer, voice, text = FilmExperts(config), torch.randn(1, 10), torch.randn(1, 8)
    torch.nn.init.normal_(layer.film.weight)
    numbers, routes = layer(voice, text)
    gamma, beta = layer.modulation(text)
    hidden = layer.expert_in(voice).view(4, 6)
    for d in range(3):
        mixed = torch.zeros(6)
        for k in range(4):
            expert = torch.nn.functional.gelu((1 + gamma[0, k]) * hidden[k] + beta[0, k])
            mixed += routes[0, d, k] * (expert @ layer.expert_out[k])
        torch.testing.assert_close(numbers[0, d], mixed @ layer.heads[d] + layer.head_bias[d])


def test_balance_is_zero_for_even_use_and_most_for_collapse() -> None:
    even = torch.eye(4).repeat(2, 1).unsqueeze(1).expand(-1, 3, -1)  # each row one expert, all experts alike often
    collapsed = torch.eye(4)[:1].expand(8, 4).unsqueeze(1).expand(-1, 3, -1)
    assert balance(even).item() == pytest.approx(0, abs=1e-6)
    assert balance(collapsed).item() == pytest.approx(3)
