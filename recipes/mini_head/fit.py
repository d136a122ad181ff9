"""Fits a head to voices with and without a reference, and to sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from features import Examples, together
from pairing import Group, Pairing, Share

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.losses import ccc_loss
from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.model_store.models import locate
from msfser_cli.training.references import References

STEPS, RATE, WEIGHT_DECAY, BALANCE, AVERAGED = 600, 2e-3, 0.1, 0.01, 0.98


def fit(
    acted: Sequence[tuple[Examples, Share]], spoken: Examples, written: Examples, *, seed: int = 0, steps: int = STEPS
) -> MsfSer:
    """A head trained on the three kinds of examples, in evaluation mode. Its weights are averaged over the end of training.

    acted: each corpus with its share.
    """
    torch.manual_seed(seed)
    actors = together([corpus for corpus, _ in acted])
    model = MsfSer(
        MsfSerConfig(
            acoustic_dim=actors.acoustic.shape[1], text_dim=actors.texts.shape[2], hidden_dim=128, semantic_dim=256,
            expert_dim=64, reference_dim=32, dropout=0.4,
            acoustic_encoder=f"whisper:{locate('whisper-base').identity}",
            text_encoder=f"transformers-text:{locate('minilm-l6').identity}",
        )
    )  # fmt: skip
    silence = np.zeros((len(written), actors.acoustic.shape[1]), np.float32)
    model.standardise_by(
        torch.from_numpy(np.concatenate([actors.acoustic, spoken.acoustic, silence])),
        torch.from_numpy(np.concatenate([actors.texts, spoken.texts, written.texts])),
        torch.from_numpy(np.concatenate([actors.present, spoken.present, written.present])),
    )
    references = References(actors.acoustic, actors.present[:, 0], actors.labels, actors.session, np.arange(len(actors)))
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    average = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for step, groups in enumerate(Pairing(acted, spoken, written, np.random.default_rng(seed)).batches(steps)):
        voiced = [group for group in groups if group.voices is not None]
        drawn = references.drawn(torch.from_numpy(np.concatenate([group.voices for group in voiced])))
        loss = _loss(model(*_inputs(groups)), groups) + _loss(references.scored(model, *_inputs(voiced), drawn), voiced)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 10 == 0:
            for name, tensor in model.state_dict().items():
                average[name].lerp_(tensor, 1 - min(AVERAGED, step / (step + 100)))
    model.load_state_dict(average)
    return model.eval()


def _inputs(groups: Sequence[Group]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.concatenate([getattr(g, name) for g in groups])) for name in ("acoustic", "texts", "present")]


def _loss(out: MsfSerOutput, groups: Sequence[Group]) -> torch.Tensor:
    loss = BALANCE * out.balance
    for group, scores in zip(groups, out.scores.split([len(g.labels) for g in groups]), strict=True):
        loss = loss + group.weight * ccc_loss(scores, torch.from_numpy(group.labels.astype(np.float32)))
    return loss
