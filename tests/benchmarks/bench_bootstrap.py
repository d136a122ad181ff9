"""Seconds for the intervals of a million utterances: all metrics of three dimensions, 10,000 resamples.

    python tests/benchmarks/bench_bootstrap.py [UTTERANCES]
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np

from msfser_cli.statistics import bootstrap

METRICS = (bootstrap.ccc, bootstrap.pearson, bootstrap.rmse, bootstrap.mae)


def main(utterances: int) -> None:
    """Time sums and draws; a line for each number of clusters."""
    rng = np.random.default_rng(0)
    rated = rng.normal(4, 1, (utterances, 3))
    scored = rated + rng.normal(0, 1, (utterances, 3))
    print(f"{'clusters':>10s}{'sums s':>10s}{'draws s':>10s}{'peak GB':>10s}")
    for clusters in (30, 1_000, 2_000, utterances):
        who = rng.permutation(np.arange(utterances) % clusters)
        began = time.perf_counter()
        sums = np.stack([bootstrap.cluster_sums(who, clusters, rated[:, d], scored[:, d], 4.0) for d in range(3)], axis=1)
        middle = time.perf_counter()
        bootstrap.resampled(sums, 10_000, 0, METRICS)
        end = time.perf_counter()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{clusters:10,d}{middle - began:10.2f}{end - middle:10.2f}{peak:10.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
