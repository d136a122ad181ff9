"""How a speaker usually sounds, and that a voice is scored relative to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer

Batch = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def model(config: MsfSerConfig) -> MsfSer:
    torch.manual_seed(1)
    made = MsfSer(dataclasses.replace(config, reference_dim=5)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made


def test_no_evidence_is_no_reference(model: MsfSer, batch: Callable[..., Batch]) -> None:
    inputs = batch(16)
    none = torch.zeros(16, 1 + model.config.acoustic_dim)
    assert torch.equal(model(*inputs, none).scores, model(*inputs).scores)


def test_the_reference_is_the_mean_of_the_voices_by_their_weights(model: MsfSer, batch: Callable[..., Batch]) -> None:
    acoustic, _, present = batch(16)
    present[:, 0] = True
    evidence = model.evidence(acoustic, present)
    weight, voice = evidence[:, 0].numpy(force=True), (acoustic - model.acoustic_mean) / model.acoustic_std
    assert ((weight > 0) & (weight < 1)).all()
    usual, share = model.reference(evidence.sum(dim=0, keepdim=True))
    mass = np.log1p(np.exp(model.reference.doubt.item())) + weight.sum()
    mean = (weight[:, None] * voice.numpy()).sum(axis=0) / mass
    np.testing.assert_allclose(usual[0].numpy(force=True), mean, rtol=1e-4, atol=1e-6)
    assert share.item() == pytest.approx(weight.sum() / mass, rel=1e-4)


def test_what_all_voices_of_a_speaker_share_is_taken_off(config: MsfSerConfig, batch: Callable[..., Batch]) -> None:
    """If all utterances weigh the same and there is no doubt, a constant in all voices changes no score."""
    model = MsfSer(dataclasses.replace(config, reference_dim=5)).eval()
    torch.nn.init.zeros_(model.reference.weight.weight)
    torch.nn.init.constant_(model.reference.doubt, -30.0)
    acoustic, texts, present = batch(16)
    present[:, 0] = True

    def scores(voices: Tensor) -> Tensor:
        evidence: Tensor = model.evidence(voices, present).sum(dim=0).expand(16, -1)
        return model(voices, texts, present, evidence).scores

    offset = torch.linspace(-2, 2, acoustic.shape[1])
    torch.testing.assert_close(scores(acoustic + offset), scores(acoustic), atol=1e-5, rtol=0)
    assert not torch.allclose(model(acoustic + offset, texts, present).scores, model(acoustic, texts, present).scores, atol=1e-3)


def test_an_utterance_without_a_voice_adds_nothing(model: MsfSer, batch: Callable[..., Batch]) -> None:
    acoustic, _, present = batch(16)
    present[::2, 0], present[1::2, 0] = False, True
    acoustic[::2] = float("nan")
    evidence = model.evidence(acoustic, present)
    assert (evidence[::2] == 0).all()
    assert (evidence[1::2, 0] > 0).all()


def test_evidence_of_another_shape_is_refused(model: MsfSer, batch: Callable[..., Batch]) -> None:
    with pytest.raises(ValueError, match="evidence must have the shape"):
        model(*batch(16), torch.zeros(16, model.config.acoustic_dim))


def test_a_checkpoint_keeps_it(model: MsfSer, batch: Callable[..., Batch], tmp_path: Path) -> None:
    weights.save(tmp_path, model)
    loaded, inputs = weights.load(tmp_path), batch(16)
    evidence = model.evidence(inputs[0], inputs[2]).sum(dim=0).expand(16, -1)
    assert torch.equal(loaded(*inputs, evidence).scores, model(*inputs, evidence).scores)


def test_a_head_without_a_reference_has_no_weights_for_it(config: MsfSerConfig) -> None:
    assert not [name for name in MsfSer(config).state_dict() if name.startswith(("reference.", "relative."))]
