"""What a normalizing flow costs and says: CPU time of fits and scores, density of held-out rows, overlap.

    python benchmarks/flow.py [--objects 1000000] [--modalities 2] [--layers 4 --hidden 128] [--scored 100000]

Vectors are made piece by piece: clusters in a space of 24 dimensions through a nonlinear map into many
features, with noise whose deviation falls slowly. A flow is fitted to a sample as large as a store of so
many objects has, cross-fitted, and calibrated; then it scores rows that it never saw. Making, reading and
hashing are not counted, nor is loading torch. Scores of a part of the objects (`--scored`) are timed and
multiplied.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fmbdask.anomaly.flow import Flow
from fmbdask.anomaly.rows import Rows
from fmbdask.anomaly.summary import Summary, sample_limit
from fmbdask.anomaly.threads import one_thread

CLUSTERS, LATENT, HIDDEN = 8, 24, 96
#: Objects that are scored at a time.
PIECE = 16_384


class Made:
    """A store of one modality that is made while it is read."""

    def __init__(self, width: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.width, self.seed = width, seed
        self.centres = random.normal(0.0, 1.2, (CLUSTERS, LATENT)).astype(np.float32)
        self.inner = random.normal(0.0, LATENT**-0.5, (LATENT, HIDDEN)).astype(np.float32)
        self.outer = random.normal(0.0, HIDDEN**-0.5, (HIDDEN, width)).astype(np.float32)
        self.turned = np.linalg.qr(random.normal(size=(width, width)))[0].astype(np.float32)
        self.noise = (0.25 * (1.0 + np.arange(width)) ** -0.25).astype(np.float32)

    def rows(self, piece: int, count: int) -> Rows:
        """Some objects; the same for the same piece."""
        random = np.random.default_rng([self.seed, piece])
        latent = self.centres[random.integers(0, CLUSTERS, count)]
        latent = latent + 0.6 * random.standard_normal(latent.shape, dtype=np.float32)
        noise = random.standard_normal((count, self.width), dtype=np.float32) * self.noise
        vectors = np.tanh(latent @ self.inner) @ self.outer + noise @ self.turned.T
        keys, groups = random.integers(0, 2**64, (2, count), dtype=np.uint64)
        return Rows(0, {"made": vectors}, {"made": np.ones(count, bool)}, keys, groups)

    def pieces(self, first: int, count: int) -> Iterator[Rows]:
        """So many objects, a piece at a time."""
        for number, begin in enumerate(range(0, count, PIECE)):
            yield self.rows(first + number, min(PIECE, count - begin))


def measure(made: Made, flow: Flow, sampled: int, scored: int) -> tuple[float, float, NDArray[np.float64]]:
    """CPU seconds of a fit to so many objects, of scoring so many others, and their scores."""
    import zuko  # noqa: F401  (it loads torch, which is not counted)

    sample = made.rows(0, sampled)
    flow.begin({"made": made.width}, {"made": {}}, None)
    before = time.process_time()
    flow.learn_from(Summary(flow.folds, sampled, {}, sample, {"made": 0}))
    fit = time.process_time() - before
    seconds, scores = 0.0, []
    with one_thread():
        for rows in made.pieces(1, scored):
            before = time.process_time()
            scores.append(flow.scores_of(rows))
            seconds += time.process_time() - before
    return fit, seconds, np.concatenate(scores)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--modalities", type=int, default=2)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--scored", type=int, default=100_000, help="objects whose scoring is timed")
    parser.add_argument("--model-type", default="coupling", choices=("coupling", "autoregressive"))
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--components", type=int, default=100)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--schedule", default="cosine", choices=("cosine", "constant"))
    parser.add_argument("--batch", type=int, default=512)
    arguments = parser.parse_args()
    widths = {str(k): arguments.width for k in range(arguments.modalities)}
    sampled = sample_limit(arguments.objects, widths)
    scored = min(arguments.scored, arguments.objects)
    flow = Flow(
        model_type=arguments.model_type, n_layers=arguments.layers, hidden_dim=arguments.hidden,
        components=arguments.components, networks=arguments.networks, epochs=arguments.epochs,
        learning_rate=arguments.learning_rate, schedule=arguments.schedule, batch=arguments.batch,
        device="cpu",
    )  # fmt: skip
    fit, seconds, scores = measure(Made(arguments.width, 1), flow, sampled, scored)
    per_object = seconds / scored
    total = arguments.modalities * (fit + per_object * arguments.objects)
    print(
        f"{arguments.model_type}, {arguments.layers} layers of width {arguments.hidden}, "
        f"{flow.networks} networks for {flow.folds} folds; load of the machine {os.getloadavg()[0]:.1f}"
    )
    for k, one in enumerate(flow.training):
        last = one["validation"][one["best"]]
        print(
            f"  network {k}    {one['rows']} rows, best after {one['best']} of {one['epochs']} epochs: "
            f"-log p of validation rows {one['validation'][0]:.2f} -> {last:.2f}"
        )
    overlap = flow.overlap
    print(
        f"  overlap      with Mahalanobis: Spearman {overlap['spearman']:.3f}, top 1 % shared "
        f"{overlap['top_percent']:.2f}; log p {overlap['gain']:+.2f} over a normal law"
    )
    print(f"  new rows     -log p {scores.mean():.2f} on average")
    print(f"  fit          {fit:8.1f} s CPU on {sampled} objects of one modality, calibration included")
    print(f"  scoring      {1e6 * per_object:8.2f} microseconds of CPU a vector")
    print(
        f"  altogether   {total:8.1f} s CPU for {arguments.objects} objects x {arguments.modalities} x "
        f"{arguments.width}: {1e3 * total / arguments.objects:.4f} ms an object"
    )


if __name__ == "__main__":
    main()
