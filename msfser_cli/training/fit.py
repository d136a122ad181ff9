"""Fits an MSF-SER model to labels: AdamW on the CCC of each batch, with early stopping on a development set.

The order and the dropout of an epoch depend only on the seed and the epoch's number. A run that is interrupted and restored after
any epoch therefore ends with the same weights as a run without interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msfser_cli.model.losses import training_loss
from msfser_cli.model.msf_ser import MsfSerOutput
from msfser_cli.schemas import DIMENSIONS
from msfser_cli.statistics import metrics

Forward = Callable[[Tensor], MsfSerOutput]
"""Scores the utterances with the given indices, int64 [B]. Gradients pass. Dropout is on if the model is in training mode."""

WARM_UP = 0.05
"""The share of the steps in which the learning rate rises to its full value. Then it falls to zero along a cosine."""
CLIP = 1.0
"""The largest norm of a step's gradient."""
_ROWS = 4096
"""Utterances per batch when scoring without training."""


class DivergedError(ArithmeticError):
    """The loss, a weight or a score is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """The settings of a training.

    rate: the head's peak learning rate. loss_weights: of valence, arousal, dominance. balance: weight of the balance term.
    patience: training stops after this many epochs without a better development CCC.
    """

    epochs: int
    batch_size: int
    rate: float
    weight_decay: float
    balance: float
    loss_weights: tuple[float, ...]
    patience: int
    seed: int


@dataclass(frozen=True)
class Epoch:
    """The results of one epoch. epoch: its number, from 1. loss: mean training loss. rate: the learning rate at its end.

    valence, arousal, dominance: CCC on the utterances that choose the epoch, NaN if not rated; for a head with a reference, the
    mean of the CCC with and without it. mean: their mean.
    """

    epoch: int
    loss: float
    valence: float
    arousal: float
    dominance: float
    mean: float
    rate: float

    def to_json(self) -> dict[str, Any]:
        """The fields by name, ready for `json.dumps`: null for NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Epoch:
        """The epoch that `to_json` wrote."""
        plain: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**plain)


class Trainer:
    """Fits the parameters of `model` to labels.

    forwards: the ways in which `model` scores utterances; it learns all of them alike. labels: float [N, 3], NaN if missing.
    rates: groups of parameters with a learning rate of their own; the others learn at the plan's. Parameters that require no
    gradient stay as they are.
    """

    def __init__(
        self, model: nn.Module, forwards: Sequence[Forward], labels: np.ndarray, plan: TrainingPlan,
        rates: Sequence[tuple[Sequence[nn.Parameter], float]] = (),
    ) -> None:  # fmt: skip
        self.model, self.plan, self.history = model, plan, list[Epoch]()
        self._forwards, self._labels = forwards, labels
        self._targets = torch.from_numpy(labels.astype(np.float32))
        apart = {id(p) for parameters, _ in rates for p in parameters}
        others = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
        groups = [(others, plan.rate), *rates]
        self._rates = [rate for _, rate in groups]
        self._optimiser = torch.optim.AdamW(
            [{"params": [p for p in parameters if p.requires_grad]} for parameters, _ in groups], weight_decay=plan.weight_decay
        )
        self._best: dict[str, Tensor] = {}

    @property
    def best(self) -> Epoch:
        """The epoch with the highest mean development CCC. Of equal ones, the first."""
        return max(self.history, key=lambda e: e.mean)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the development CCC has not improved for `patience` epochs."""
        done = len(self.history)
        return done > 0 and (done >= self.plan.epochs or done - self.best.epoch >= self.plan.patience)

    def run(self, train: np.ndarray, development: np.ndarray, after: Callable[[Epoch], None]) -> None:
        """Train until `finished`. train, development: int64 indices of utterances. after: called at the end of each epoch.

        The development utterances choose the epoch. Afterwards, the model has the weights of the best epoch, in evaluation mode.
        DivergedError if a loss, a weight or a score is not finite.
        """
        while not self.finished:
            self._epoch(train, development)
            after(self.history[-1])
        self.model.load_state_dict(self._best)
        self.model.eval()

    def scores(self, chosen: np.ndarray) -> np.ndarray:
        """The model's scores of the utterances with these indices, in each of the W ways: float64 [W, n, 3]."""
        self.model.eval()
        with torch.inference_mode():
            parts = [
                torch.stack([forward(part).scores.double() for forward in self._forwards])
                for part in torch.split(torch.from_numpy(chosen), _ROWS)
            ]
        return torch.cat(parts, dim=1).numpy()

    def ccc(self, chosen: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The CCC of the `scores` [W, n, 3] of these utterances, float64 [W, 3]. NaN if not rated."""
        labels = self._labels[chosen]
        rated = ~np.isnan(labels)
        return np.array([
            [metrics.ccc(labels[rated[:, d], d], way[rated[:, d], d]) for d in range(len(DIMENSIONS))] for way in scores
        ])

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The state for `restore`: tensors by name, and values that JSON can hold."""
        moments = {
            f"optimiser.{i}.{name}": tensor
            for i, slot in self._optimiser.state_dict()["state"].items()
            for name, tensor in slot.items()
        }
        now = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        best = {f"best.{name}": tensor for name, tensor in self._best.items()}
        return {**now, **best, **moments}, {"history": [e.to_json() for e in self.history]}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Continue from a `state`. The model and the plan must be equal to those that it came from."""
        def under(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        self.model.load_state_dict(under("model."))
        self._best = under("best.")
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in under("optimiser.").items():
            number, _, quantity = name.partition(".")
            slots.setdefault(int(number), {})[quantity] = tensor
        self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": slots})
        self.history = [Epoch.from_json(e) for e in about["history"]]

    def _epoch(self, train: np.ndarray, development: np.ndarray) -> None:
        number = len(self.history) + 1
        order = np.random.default_rng([self.plan.seed, number]).permutation(train)
        # Batches of equal size: the CCC of a small remainder would be noise.
        batches = np.array_split(order, max(1, round(len(train) / self.plan.batch_size)))
        torch.manual_seed(self.plan.seed * 1_000_003 + number)
        self.model.train()
        losses = []
        for i, batch in enumerate(batches):
            share = (len(batches) * (number - 1) + i) / (len(batches) * self.plan.epochs)
            for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
                group["lr"] = rate * _of_full_rate(share)
            losses.append(self._step(torch.from_numpy(batch)))
        if not all(torch.isfinite(p).all() for p in self.model.parameters()):
            raise DivergedError("a weight is not finite")
        scores = self.scores(development)
        if not np.isfinite(scores).all():
            raise DivergedError("a score is not finite")
        valence, arousal, dominance = self.ccc(development, scores).mean(axis=0).tolist()
        mean = float(np.nanmean([valence, arousal, dominance]))
        rate = self._optimiser.param_groups[0]["lr"]
        self.history.append(Epoch(number, float(np.mean(losses)), valence, arousal, dominance, mean, rate))
        if self.best.epoch == number:
            self._best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _step(self, batch: Tensor) -> float:
        plan = self.plan
        self._optimiser.zero_grad()
        losses = [
            training_loss(forward(batch), self._targets[batch], plan.loss_weights, plan.balance) for forward in self._forwards
        ]
        loss = torch.stack(losses).mean()
        if not torch.isfinite(loss):
            raise DivergedError("the loss is not finite")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self._optimiser.step()
        return loss.item()


def _of_full_rate(share: float) -> float:
    """The learning rate relative to its peak, 0..1, after this share of all steps, 0..1."""
    if share < WARM_UP:
        return (share + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
