from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer, MsfSerOutput
from msfser_cli.training.fit import DivergedError, Epoch, Trainer, TrainingPlan

PLAN = TrainingPlan(
    epochs=6, batch_size=16, rate=1e-2, weight_decay=0.01, balance=0.01, loss_weights=(1, 1, 1), patience=6, seed=3
)  # fmt: skip
TRAIN, DEVELOPMENT = np.arange(60), np.arange(60, 90)


def _trainer(config: MsfSerConfig, plan: TrainingPlan = PLAN, labels: np.ndarray | None = None) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    acoustic, texts = torch.randn(90, 12, generator=generator), torch.randn(90, 3, 7, generator=generator)
    present = torch.ones(90, 4, dtype=torch.bool)
    if labels is None:
        labels = torch.sigmoid(torch.stack([texts[:, 1, 0], acoustic[:, 0], acoustic[:, 1]], dim=1)).double().numpy()
    torch.manual_seed(plan.seed)
    model = MsfSer(dataclasses.replace(config, dropout=0.2))
    return Trainer(model, [lambda chosen: model(acoustic[chosen], texts[chosen], present[chosen])], labels, plan)


def _weights(trainer: Trainer) -> dict[str, Tensor]:
    return trainer.model.state_dict()


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_restored_run_ends_as_one_that_was_not_interrupted(config: MsfSerConfig, stop_after: int) -> None:
    whole = _trainer(config)
    whole.run(TRAIN, DEVELOPMENT, lambda _: None)

    class StoppedError(Exception):
        pass

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == stop_after:
            raise StoppedError

    first = _trainer(config)
    with pytest.raises(StoppedError):
        first.run(TRAIN, DEVELOPMENT, stop)
    tensors, about = first.state()
    second = _trainer(config)
    second.restore({name: t.clone() for name, t in tensors.items()}, about)
    second.run(TRAIN, DEVELOPMENT, lambda _: None)
    assert second.history == whole.history
    for name, tensor in _weights(whole).items():
        assert torch.equal(_weights(second)[name], tensor), name


def test_the_best_epochs_weights_are_kept(config: MsfSerConfig) -> None:
    trainer = _trainer(config, dataclasses.replace(PLAN, rate=0.3, epochs=12, patience=12))
    trainer.run(TRAIN, DEVELOPMENT, lambda _: None)
    assert trainer.best.epoch < 12  # else this test shows nothing
    labels = trainer._labels[DEVELOPMENT]
    from msfser_cli.statistics.metrics import ccc

    [scores] = trainer.scores(DEVELOPMENT)
    assert trainer.best.arousal == pytest.approx(ccc(labels[:, 1], scores[:, 1]), abs=1e-6)


def test_it_stops_when_nothing_gets_better(config: MsfSerConfig) -> None:
    trainer = _trainer(config, dataclasses.replace(PLAN, rate=1e-12, epochs=50, patience=3))
    trainer.run(TRAIN, DEVELOPMENT, lambda _: None)
    assert len(trainer.history) == trainer.best.epoch + 3 < 50


def test_every_utterance_is_seen_once_an_epoch(config: MsfSerConfig) -> None:
    seen: list[int] = []
    model = nn.Linear(1, 3)

    def forward(chosen: Tensor) -> MsfSerOutput:
        if model.training:
            seen.extend(chosen.tolist())
        scores = model(torch.ones(len(chosen), 1)) + chosen[:, None] / 100
        return MsfSerOutput(scores, torch.zeros(0), torch.zeros(0), torch.tensor(0.0))

    plan = dataclasses.replace(PLAN, epochs=1, batch_size=16)
    Trainer(model, [forward], np.random.default_rng(0).random((90, 3)), plan).run(np.arange(37), DEVELOPMENT, lambda _: None)
    assert sorted(seen) == list(range(37))


def test_numbers_that_are_not_finite_end_it(config: MsfSerConfig) -> None:
    labels = np.random.default_rng(0).random((90, 3))
    labels[5] = math.inf
    with pytest.raises(DivergedError):
        _trainer(config, labels=labels).run(TRAIN, DEVELOPMENT, lambda _: None)


def test_a_weight_of_zero_leaves_a_dimension_unlearned(config: MsfSerConfig) -> None:
    plan = dataclasses.replace(PLAN, epochs=20, patience=20)
    both, one = _trainer(config, plan), _trainer(config, dataclasses.replace(plan, loss_weights=(1, 0, 1)))
    for trainer in (both, one):
        trainer.run(TRAIN, DEVELOPMENT, lambda _: None)
    assert both.best.arousal > 0.6
    assert max(e.arousal for e in one.history) < 0.5
