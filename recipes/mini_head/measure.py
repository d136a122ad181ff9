"""Measures heads: CCC with intervals, coverage, parts left out, and references of several kinds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from chain import Heard
from features import Examples

from msfser_cli.model.msf_ser import MsfSer
from msfser_cli.schemas import DIMENSIONS, SEMANTIC_STREAMS, STREAMS
from msfser_cli.statistics import bootstrap
from msfser_cli.statistics.intervals import Intervals
from msfser_cli.statistics.metrics import ccc
from msfser_cli.training.references import References

RESAMPLES = 10_000
FACTOR = math.sqrt(1 + 1 / 2)
"""How much wider the intervals of a corpus are than those of two others.

The errors on n corpora are those around their common mean. One more corpus differs from that mean by the factor sqrt(1 + 1 / n)
more, as a new observation from a mean of n does.
"""
NONE, ALL = "none", "all"
"""No reference, and one from all of a speaker's utterances. `ALL` also stands for all streams."""


@dataclass
class Measured:
    """Results on `n` recordings or sentences, by dimension: CCC with its 95 % interval (ccc, low, high), and the share of labels
    in the prediction intervals (0..1).
    """

    n: int
    ccc: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    covered: dict[str, float] = field(default_factory=dict)


def outputs(head: MsfSer, examples: Examples, reference: str | Sequence[np.ndarray] = NONE) -> tuple[np.ndarray, np.ndarray]:
    """The head's scores of the examples, float32 [n, 3], and its gates, [n, 3].

    reference: `NONE`, `ALL` of the session, or the indices of the examples that each one is compared with.
    """
    inputs = [torch.from_numpy(getattr(examples, name)) for name in ("acoustic", "texts", "present")]
    with torch.inference_mode():
        if reference is NONE:
            out = head(*inputs)
        else:
            every = np.arange(len(examples))
            references = References(examples.acoustic, examples.present[:, 0], examples.labels, examples.session, every)
            drawn = references.complete(torch.from_numpy(every)) if reference is ALL else references.of(reference)
            out = references.scored(head, *inputs, drawn)
    return out.scores.numpy(), out.gates.numpy()


def agreement(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> Measured:
    """The CCC of each dimension with its 95 % interval, from resamples of the clusters."""
    names, cluster = np.unique(clusters, return_inverse=True)
    row = Measured(len(labels))
    for i, d in enumerate(DIMENSIONS):
        sums = bootstrap.cluster_sums(cluster, len(names), labels[:, i], scores[:, i])
        interval = bootstrap.interval(bootstrap.resampled(sums[:, None], RESAMPLES, 0)[0, :, 0], len(names))
        row.ccc[d] = (ccc(labels[:, i], scores[:, i]), interval.low, interval.high)
    return row


def measured(heard: Heard, scores: np.ndarray, intervals: Intervals | None = None) -> Measured:
    """The agreement of scores with labels by recording, and the coverage of `intervals`, if any."""
    labels, means, speakers = heard.by_clip(scores)
    row = agreement(labels, means, speakers)
    if intervals is not None:
        around = intervals.around(means, 0.0, 1.0)
        inside = (around[..., 0] <= labels) & (labels <= around[..., 1])
        row.covered = dict(zip(DIMENSIONS, inside.mean(axis=0).tolist(), strict=True))
    return row


def without(examples: Examples, *streams: str) -> Examples:
    """The examples without some streams."""
    present = examples.present.copy()
    present[:, [STREAMS.index(stream) for stream in streams]] = False
    return replace(examples, present=present)


def plain_ccc(heard: Heard, scores: np.ndarray) -> list[float]:
    """The CCC of each dimension."""
    labels, means, _ = heard.by_clip(scores)
    return [ccc(labels[:, i], means[:, i]) for i in range(len(DIMENSIONS))]


def ablated(head: MsfSer, heard: Heard) -> dict[str, list[float]]:
    """The CCC with `ALL` streams, and the change if one or all of the texts are left out."""
    full = plain_ccc(heard, outputs(head, heard.examples)[0])
    changes = {ALL: full}
    for left_out in (*((s,) for s in SEMANTIC_STREAMS), SEMANTIC_STREAMS):
        rest = plain_ccc(heard, outputs(head, without(heard.examples, *left_out))[0])
        changes[" and ".join(left_out).upper()] = [r - f for r, f in zip(rest, full, strict=True)]
    return changes


def of_size(examples: Examples, size: int, seed: int = 0) -> list[np.ndarray]:
    """For each example, itself and `size` - 1 others of its session at random; all if there are fewer."""
    rng = np.random.default_rng(seed)
    own = {name: np.flatnonzero(examples.session == name) for name in np.unique(examples.session)}
    return [
        np.append(rng.permutation(others)[: size - 1], i)
        for i, name in enumerate(examples.session)
        for others in [own[name][own[name] != i]]
    ]


def of_one_mood(examples: Examples) -> list[np.ndarray]:
    """For each example, those of its session with the same label, as if the speaker always spoke like that."""
    moods = np.unique(examples.labels, axis=0, return_inverse=True)[1].reshape(-1)
    own = zip(examples.session, moods, strict=True)
    return [np.flatnonzero((examples.session == name) & (moods == mood)) for name, mood in own]
