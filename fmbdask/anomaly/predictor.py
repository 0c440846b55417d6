"""What the vector of one modality says about that of the other: by ridge regression, or by a small network.

Both work on coordinates of unit vectors along principal components, in deviations. Trained networks are
applied with NumPy: nothing but the training needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import need

Floats = NDArray[np.float32]
#: Of the ridge: variance that is added to the inputs'.
RIDGE = 1e-3
#: Width of the hidden layers, and passes over the rows.
HIDDEN, EPOCHS = 192, 12
#: One in so many rows validates.
HELD = 20
#: Of the network's logarithms of deviations.
LOG_DEVIATION = (-5.0, 3.0)


@dataclass(frozen=True)
class Predictor:
    """A fitted map, and how large what it leaves usually is.

    Attributes
    ----------
    linear : (I, O) float32
    layers : tuple of arrays
        Weights (inputs, outputs) and biases of the network that predicts what the linear map leaves; none
        for a ridge.
    whitening : (O, O) float32
        Makes what is left uncorrelated, each in its deviation.
    """

    linear: Floats
    layers: tuple[Floats, ...]
    whitening: Floats

    @staticmethod
    def learn(
        inputs: Floats,
        targets: Floats,
        keys: NDArray[np.uint64],
        *,
        network: bool,
        seed: int,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Predictor:
        """Fit to rows (n, I) and (n, O), of whose hashes some are held out for validation."""
        gram = inputs.T.astype(np.float64) @ inputs
        gram[np.diag_indices_from(gram)] += RIDGE * len(inputs)
        linear = np.linalg.solve(gram, inputs.T.astype(np.float64) @ targets).astype(np.float32)
        left = targets - inputs @ linear
        layers: tuple[Floats, ...] = ()
        if network:
            need("alignments by a network", "torch")
            from ..models.mlp import train_mlp
            from ..models.training import Training

            options = Training(
                learning_rate=3e-3, batch=256, epochs=EPOCHS, patience=EPOCHS, weight_decay=1e-4
            )
            held = (keys >> np.uint64(20)) % np.uint64(HELD) == 0
            if held.all() or not held.any():
                held = np.arange(len(keys)) % HELD == 0
            found, _ = train_mlp(
                inputs, left, held, hidden=HIDDEN, options=options, seed=seed, progress=progress
            )
            layers = tuple(found)
        one = Predictor(linear, layers, np.eye(targets.shape[1], dtype=np.float32))
        scaled = one.left(inputs, targets).astype(np.float64)
        covariance = np.cov(scaled.T).reshape(targets.shape[1], -1)
        covariance[np.diag_indices_from(covariance)] += 1e-6 * np.trace(covariance) / len(covariance)
        whitening = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
        return Predictor(linear, layers, whitening)

    def left(self, inputs: Floats, targets: Floats) -> Floats:
        """What is not predicted of the targets, in predicted deviations, uncorrelated; (n, O)."""
        found: Floats = targets - inputs @ self.linear
        if self.layers:
            first, first_bias, second, second_bias, last, last_bias = self.layers
            hidden = _silu(_silu(inputs @ first + first_bias) @ second + second_bias)
            output = hidden @ last + last_bias
            count = targets.shape[1]
            deviations = np.exp(np.clip(output[:, count:], *LOG_DEVIATION)).astype(np.float32)
            found = ((found - output[:, :count]) / deviations).astype(np.float32)
        result: Floats = found @ self.whitening
        return result

    def arrays(self, name: str) -> dict[str, NDArray[Any]]:
        """What is saved with a model, under names that begin with ``name``."""
        layers = {f"{name}_layer_{k}": a for k, a in enumerate(self.layers)}
        return {f"{name}_linear": self.linear, f"{name}_whitening": self.whitening, **layers}

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], name: str) -> Predictor:
        """Inverse of :meth:`arrays`."""
        count = sum(1 for key in arrays if key.startswith(f"{name}_layer_"))
        layers = tuple(arrays[f"{name}_layer_{k}"] for k in range(count))
        return Predictor(arrays[f"{name}_linear"], layers, arrays[f"{name}_whitening"])


def _silu(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(values / (1.0 + np.exp(-values)), np.float32)
