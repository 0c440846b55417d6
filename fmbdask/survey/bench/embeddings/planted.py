"""Embeddings of two modalities with planted anomalies of five classes, as a base that should be easy.

Images and spectra share a latent vector and most of what makes vectors of it, so that they are nearly
aligned, as those of contrastive models are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What is planted: an artefact in one modality, images with the spectra of others, unusual objects whose
#: modalities disagree, and a shift of both where ordinary vectors hardly vary.
CLASSES = ("artefact in image", "artefact in spectrum", "swapped", "joint tail", "shift")
#: Share of the objects that is planted, a fifth of it in each class.
SHARE = 0.0125
#: Directions of least noise that a shift uses, and directions that artefacts have between them.
QUIET, ARTEFACTS = 64, 3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Planted:
    """A store in memory, and what is wrong in it.

    Attributes
    ----------
    image, spectrum : (n, width) float32
    truth : (n,) int8
        0 ordinary, else 1 + place in :data:`CLASSES`.
    """

    image: Floats
    spectrum: Floats
    truth: NDArray[np.int8]


def planted(seed: int, *, objects: int = 20_000, width: int = 768, severity: float = 0.5) -> Planted:
    """Make a store of eight equal clusters with planted anomalies.

    Parameters
    ----------
    seed : int
    objects, width : int
    severity : float
        How far anomalies are from what is ordinary; at 0 nothing is planted.

    Returns
    -------
    Planted
    """
    rng = np.random.default_rng(seed)
    latents, hidden = 24, 96
    centres = rng.normal(0.0, 1.2, (8, latents))
    z = centres[rng.integers(0, 8, objects)] + rng.normal(0.0, 0.6, (objects, latents))
    truth = classes_of(objects, severity, rng)
    z_image, z_spectrum = disagree(z, truth, severity, rng)
    first = rng.normal(0.0, latents**-0.5, (latents, hidden)).astype(np.float32)
    common = rng.normal(0.0, hidden**-0.5, (hidden, width)).astype(np.float32)
    vectors = []
    for place, latent in enumerate((z_image, z_spectrum)):
        own = rng.normal(0.0, 0.35 * hidden**-0.5, (hidden, width)).astype(np.float32)
        signal = np.tanh(latent.astype(np.float32) @ first) @ (common + own)
        axes, amplitudes = noise_axes(width, rng)
        noise = rng.standard_normal((objects, width), dtype=np.float32) * amplitudes
        vectors.append(spoil(signal + noise @ axes.T, axes, truth, place, severity, rng))
    return Planted(vectors[0], vectors[1], truth)


def classes_of(objects: int, severity: float, rng: np.random.Generator) -> NDArray[np.int8]:
    """Decide which objects are anomalous, and how."""
    truth = np.zeros(objects, np.int8)
    if severity > 0:
        each = max(1, round(objects * SHARE / len(CLASSES)))
        places = rng.permutation(objects)[: each * len(CLASSES)]
        truth[places] = np.repeat(np.arange(1, len(CLASSES) + 1), each)
    return truth


def disagree(
    z: NDArray[np.float64], truth: NDArray[np.int8], severity: float, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latent vectors of both modalities: swapped ones and joint tails differ."""
    image, spectrum = z.copy(), z.copy()
    swapped, tail = (np.flatnonzero(truth == 1 + CLASSES.index(name)) for name in ("swapped", "joint tail"))
    spectrum[swapped] = z[rng.permutation(len(z))[: len(swapped)]]
    for latent in (image, spectrum):
        away = rng.normal(size=(len(tail), z.shape[1]))
        latent[tail] += 3.0 * severity * away / np.linalg.norm(away, axis=1, keepdims=True)
    return image, spectrum


def noise_axes(width: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Axes (width, width) of the noise and its amplitude along each, which falls slowly."""
    axes, _ = np.linalg.qr(rng.standard_normal((width, width), dtype=np.float32))
    return axes, (0.25 * (1.0 + np.arange(width)) ** -0.25).astype(np.float32)


def spoil(
    vectors: Floats,
    axes: Floats,
    truth: NDArray[np.int8],
    modality: int,
    severity: float,
    rng: np.random.Generator,
) -> Floats:
    """Add the artefacts of one modality, and the shifts."""
    width = vectors.shape[1]
    deviation = float(vectors.std())
    artefact, shift = np.flatnonzero(truth == 1 + modality), np.flatnonzero(truth == len(CLASSES))
    directions = rng.standard_normal((ARTEFACTS, width), dtype=np.float32)
    vectors[artefact] += 0.9 * severity * deviation * directions[rng.integers(0, ARTEFACTS, len(artefact))]
    quiet = min(QUIET, width // 4)
    steps = rng.standard_normal((len(shift), quiet), dtype=np.float32)
    vectors[shift] += 2.2 * severity * deviation * (steps @ axes[:, -quiet:].T)
    return np.ascontiguousarray(vectors, np.float32)
