"""Planted anomalies in harder stores, each family built in another way; constants vary with the seed.

All have clusters of unequal size down to half a per cent of the objects, noise with heavy tails, modalities
that share no axes and are related by something that is not linear, and brightness that scatters.
:data:`JUDGES` judge; :data:`TUNING` are those that the detectors' settings were chosen with.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .planted import Floats, Planted, classes_of, disagree, noise_axes, spoil

Latents = NDArray[np.float64]
#: Share of the smallest cluster.
SMALLEST = 0.005
Family = Callable[..., Planted]


def mixed(seed: int, *, objects: int = 20_000, width: int = 512, severity: float = 0.5) -> Planted:
    """Latent clusters seen through two random networks of two layers, one a modality.

    Parameters
    ----------
    seed : int
    objects, width : int
    severity : float
        At 0 nothing is planted.
    """
    rng = np.random.default_rng([1, seed])
    latents, clusters = int(rng.integers(12, 25)), int(rng.integers(8, 15))
    which = rng.choice(clusters, objects, p=_shares(clusters, rng))
    centres = rng.normal(0.0, rng.uniform(1.0, 1.4), (clusters, latents))
    widths = rng.uniform(0.4, 0.7, clusters)
    z = centres[which] + widths[which, None] * _student(objects, latents, rng.uniform(6, 12), rng)
    truth = classes_of(objects, severity, rng)
    vectors = []
    for place, latent in enumerate(disagree(z, truth, severity, rng)):
        first, second = int(rng.integers(64, 129)), int(rng.integers(64, 129))
        x = latent.astype(np.float32)
        x = np.tanh(rng.uniform(0.7, 1.1) * x @ _weights(latents, first, rng))
        x = np.tanh(1.5 * x @ _weights(first, second, rng)) @ _weights(second, width, rng)
        vectors.append(_finish(x, truth, place, severity, rng, dof=rng.uniform(5, 10)))
    return Planted(vectors[0], vectors[1], truth)


def curved(seed: int, *, objects: int = 20_000, width: int = 512, severity: float = 0.5) -> Planted:
    """Filaments in the latent space seen through sines; the noise of each feature has tails of its own."""
    rng = np.random.default_rng([2, seed])
    latents, clusters = int(rng.integers(10, 21)), int(rng.integers(9, 13))
    which = rng.choice(clusters, objects, p=_shares(clusters, rng))
    along = rng.uniform(-1.0, 1.0, (objects, 1))
    centres, slope, bend = (rng.normal(0.0, s, (clusters, latents)) for s in (1.1, 0.7, 0.4))
    z = centres[which] + along * slope[which] + along**2 * bend[which]
    z += rng.uniform(0.3, 0.6) * _student(objects, latents, 8.0, rng)
    truth = classes_of(objects, severity, rng)
    vectors = []
    for place, latent in enumerate(disagree(z, truth, severity, rng)):
        hidden = int(rng.integers(60, 100))
        phase = rng.uniform(0, 2 * np.pi, hidden).astype(np.float32)
        x = latent.astype(np.float32)
        x = np.sin(rng.uniform(0.8, 1.2) * x @ _weights(latents, hidden, rng) + phase)
        x = x @ _weights(hidden, width, rng)
        vectors.append(_finish(x, truth, place, severity, rng, dof=rng.uniform(4, 7), each=True))
    return Planted(vectors[0], vectors[1], truth)


def private(seed: int, *, objects: int = 20_000, width: int = 512, severity: float = 0.5) -> Planted:
    """Elongated clusters; each modality also sees what the other does not, and clusters differ in noise."""
    rng = np.random.default_rng([3, seed])
    latents, clusters, own = int(rng.integers(12, 19)), int(rng.integers(7, 12)), int(rng.integers(2, 5))
    which = rng.choice(clusters, objects, p=_shares(clusters, rng))
    stretch = rng.uniform(0.3, 0.9, (clusters, latents))
    z = rng.normal(0.0, 1.2, (clusters, latents))[which] + stretch[which] * rng.normal(
        size=(objects, latents)
    )
    truth = classes_of(objects, severity, rng)
    loudness = rng.uniform(0.7, 1.6, clusters).astype(np.float32)[which, None]
    vectors = []
    for place, latent in enumerate(disagree(z, truth, severity, rng)):
        hidden = int(rng.integers(60, 110))
        alone = rng.uniform(0.3, 0.5) * rng.normal(size=(objects, own))
        x = np.concatenate([latent, alone], axis=1).astype(np.float32) @ _weights(latents + own, hidden, rng)
        x = np.log1p(np.exp(4.0 * x)) + 0.3 * x * x
        x = (x - x.mean(axis=0)) @ _weights(hidden, width, rng)
        vectors.append(_finish(x, truth, place, severity, rng, dof=rng.uniform(5, 9), loudness=loudness))
    return Planted(vectors[0], vectors[1], truth)


JUDGES: dict[str, Family] = {"mixed": mixed}
TUNING: dict[str, Family] = {"curved": curved, "private": private}


def _shares(clusters: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Shares of the clusters: the smallest two have the least."""
    others = rng.dirichlet(np.full(clusters - 2, 1.5)) + 0.01
    others *= (1.0 - 2 * SMALLEST) / others.sum()
    return np.concatenate([[SMALLEST, SMALLEST], others])


def _weights(inputs: int, outputs: int, rng: np.random.Generator) -> Floats:
    return rng.normal(0.0, inputs**-0.5, (inputs, outputs)).astype(np.float32)


def _student(objects: int, width: int, dof: float, rng: np.random.Generator) -> Latents:
    """Student's t of many dimensions: one scale an object."""
    return rng.normal(size=(objects, width)) / np.sqrt(rng.chisquare(dof, (objects, 1)) / dof)


def _finish(
    signal: Floats,
    truth: NDArray[np.int8],
    modality: int,
    severity: float,
    rng: np.random.Generator,
    *,
    dof: float,
    each: bool = False,
    loudness: float | Floats = 1.0,
) -> Floats:
    """Scale to the prototype's spread, add noise, plant, scatter the brightness."""
    signal = signal * np.float32(0.62 / signal.std())
    axes, amplitudes = noise_axes(signal.shape[1], rng)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise /= np.sqrt(rng.chisquare(dof, signal.shape if each else (len(signal), 1)) / dof).astype(np.float32)
    x: Floats = (signal + (noise * (amplitudes * loudness)) @ axes.T).astype(np.float32)
    x = spoil(x, axes, truth, modality, severity, rng)
    x *= np.exp(rng.normal(0.0, rng.uniform(0.1, 0.3), (len(x), 1))).astype(np.float32)
    return np.ascontiguousarray(x, np.float32)
