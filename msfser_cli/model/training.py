"""Fitting an MSF-SER to labels: AdamW on the concordance of each batch, early stopping on a development set.

An epoch's order and dropout follow from the seed and the epoch's number alone, so a run that is interrupted and restored from the
state after any epoch ends with the same weights as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from msfser_cli.model import metrics
from msfser_cli.model.config import DIMENSIONS
from msfser_cli.model.losses import training_loss
from msfser_cli.model.msf_ser import MsfSerOutput

Forward = Callable[[Tensor], MsfSerOutput]
"""Scores the utterances with these indices, int64 [B]; differentiable, and in training mode where the model is."""

WARM_UP = 0.05
"""The share of the steps in which the rate rises to its full value, before it falls to zero along a cosine."""
CLIP = 1.0
"""The largest norm of a step's gradient."""
_ROWS = 4096
"""Utterances scored together outside of training."""


class DivergedError(ArithmeticError):
    """The loss, a weight or a score is no longer a finite number."""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How to fit. rate is the largest, of the head; patience is the number of epochs without a better development CCC to stop at.

    loss_weights: of valence, arousal, dominance. balance: weight of the experts' balance term.
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
    """One epoch, numbered from 1: mean training loss, development CCC of each dimension (NaN where not rated) and their mean."""

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
        """What `to_json` wrote."""
        plain: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**plain)


class Trainer:
    """Fits the parameters of `model`, whose scores `forward` gives, to `labels` [N, 3] (NaN: missing).

    rates: parameters that learn at another rate than the plan's, with that rate; what does not require a gradient does not learn.
    """

    def __init__(
        self, model: nn.Module, forward: Forward, labels: np.ndarray, plan: TrainingPlan,
        rates: Sequence[tuple[Sequence[nn.Parameter], float]] = (),
    ) -> None:  # fmt: skip
        self.model, self.plan, self.history = model, plan, list[Epoch]()
        self._forward, self._labels = forward, labels
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
        """The epoch with the highest mean development CCC, the first of equals."""
        return max(self.history, key=lambda e: e.mean)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the development CCC has not risen for `patience` of them."""
        done = len(self.history)
        return done > 0 and (done >= self.plan.epochs or done - self.best.epoch >= self.plan.patience)

    def run(self, train: np.ndarray, development: np.ndarray, after: Callable[[Epoch], None]) -> None:
        """Fit to the utterances `train` until `finished`, judged on `development` (indices); `after` is called for each epoch.

        In the end the model has the weights of the best epoch, in evaluation mode. DivergedError when numbers are not finite.
        """
        while not self.finished:
            self._epoch(train, development)
            after(self.history[-1])
        self.model.load_state_dict(self._best)
        self.model.eval()

    def scores(self, chosen: np.ndarray) -> np.ndarray:
        """The model's scores of the utterances with these indices, float64 [n, 3]."""
        self.model.eval()
        with torch.inference_mode():
            parts = [self._forward(part).scores.double() for part in torch.split(torch.from_numpy(chosen), _ROWS)]
        return torch.cat(parts).numpy()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that `restore` needs: tensors by name, and what JSON can hold."""
        moments = {
            f"optimiser.{i}.{name}": tensor
            for i, slot in self._optimiser.state_dict()["state"].items()
            for name, tensor in slot.items()
        }
        now = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        best = {f"best.{name}": tensor for name, tensor in self._best.items()}
        return {**now, **best, **moments}, {"history": [e.to_json() for e in self.history]}

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Go on from what `state` gave of an equal model with an equal plan."""
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
        # Parts of equal size: a concordance over the few utterances that are left over would be noise.
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
        valence, arousal, dominance = (self._ccc(development, scores, d) for d in range(len(DIMENSIONS)))
        mean = float(np.nanmean([valence, arousal, dominance]))
        rate = self._optimiser.param_groups[0]["lr"]
        self.history.append(Epoch(number, float(np.mean(losses)), valence, arousal, dominance, mean, rate))
        if self.best.epoch == number:
            self._best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}

    def _ccc(self, chosen: np.ndarray, scores: np.ndarray, dimension: int) -> float:
        labels = self._labels[chosen, dimension]
        known = ~np.isnan(labels)
        return metrics.ccc(labels[known], scores[known, dimension])

    def _step(self, batch: Tensor) -> float:
        plan = self.plan
        self._optimiser.zero_grad()
        loss = training_loss(self._forward(batch), self._targets[batch], plan.loss_weights, plan.balance)
        if not torch.isfinite(loss):
            raise DivergedError("the loss is not finite")
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self._optimiser.step()
        return loss.item()


def _of_full_rate(share: float) -> float:
    """The rate after this share of all steps, 0..1."""
    if share < WARM_UP:
        return (share + 0.01) / (WARM_UP + 0.01)
    return 0.5 * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP)))
