from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msfser_cli.model.config import MsfSerConfig

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def config() -> MsfSerConfig:
    return MsfSerConfig(acoustic_dim=12, text_dim=7, hidden_dim=10, semantic_dim=8, expert_dim=6, dropout=0.0)


@pytest.fixture
def batch() -> Callable[[int, int], Batch]:
    """Random inputs whose presence mask runs through all 16 patterns: with 16 rows or more, each occurs."""

    def make(rows: int, seed: int = 0) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        acoustic = torch.randn(rows, 12, generator=generator)
        texts = torch.randn(rows, 3, 7, generator=generator)
        present = torch.tensor([[bool(i >> bit & 1) for bit in range(4)] for i in range(15, 15 - rows, -1)])
        return acoustic, texts, present

    return make
