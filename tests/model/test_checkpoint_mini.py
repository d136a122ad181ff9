"""The head that ships: safe to load, small, and fitted to what the `mini` profile feeds it."""

from __future__ import annotations

from pathlib import Path

import torch

import msfser_cli.model
from msfser_cli.model import weights
from msfser_cli.model_store.registry import registry
from msfser_cli.profiles import profile

FOLDER = Path(msfser_cli.model.__file__).parent / "checkpoints" / "mini"


def test_it_fits_the_profile() -> None:
    """It knows its encoders by revision, so another model in a folder of the same name is refused."""
    config, embed = weights.load(FOLDER).config, profile("mini")["embed"]
    acoustic, text = (registry()[embed[f"{role}_model"]] for role in ("acoustic", "text"))
    assert config.acoustic_encoder == f"{embed['acoustic_encoder']}:{acoustic.source}@{acoustic.revision}"
    assert config.text_encoder == f"{embed['text_encoder']}:{text.source}@{text.revision}"
    assert (config.low, config.high) == (0, 1)


def test_it_is_small_and_has_its_card() -> None:
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 6_000_000
    card = (FOLDER / "MODEL_CARD.md").read_text("utf-8")
    assert "CC0-1.0" in card
    assert "Open Database License 1.0" in card
    assert "CC-BY-SA 4.0" in card
    assert "Not good for" in card


def test_no_expert_and_no_dimension_has_died() -> None:
    """Over ordinary inputs every expert is used by some dimension, and the three scores are not one."""
    model = weights.load(FOLDER)
    generator = torch.Generator().manual_seed(0)
    acoustic = model.acoustic_mean + model.acoustic_std * torch.randn(200, model.config.acoustic_dim, generator=generator)
    texts = model.text_mean + model.text_std * torch.randn(200, 3, 384, generator=generator)
    output = model(acoustic, texts, torch.ones(200, 4, dtype=torch.bool))
    assert (output.routes.mean(dim=(0, 1)) > 0.05).all()
    assert (output.scores.std(dim=0) > 0.02).all()
    assert torch.corrcoef(output.scores.T).triu(1).abs().max() < 0.99
