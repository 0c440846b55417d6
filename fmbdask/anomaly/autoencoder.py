"""How far vectors are from what a narrow network gives back of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .network import Job, NetworkDetector
from .standard import CLIP, Standard, check_scale

if TYPE_CHECKING:
    import torch

    from ..models.autoencoder import DenseAutoencoder


class Autoencoder(NetworkDetector[Standard, "DenseAutoencoder"]):
    """Mean square error of the reconstruction of a vector by an autoencoder.

    Parameters
    ----------
    folds, seed
        As for every detector.
    layers : sequence of int
        Widths from the first hidden layer to the narrowest; the way back has the same ones. ReLU after each
        but the narrowest.
    networks : int
        Networks that the folds share, 2 or more where there is more than one fold: each is trained without
        its folds, which it scores.
    percentile : float, optional
        Of scores of ordinary objects, above which objects are labelled anomalous; none: p-values decide.
    scale : {"standard", "robust", "none"}
        What features are brought to, see :class:`~fmbdask.anomaly.standard.Standard`. The network sees them
        clipped at 10 scales; errors are of what they are, so that scores go on growing.
    trim : float
        Share of the rows of a batch, those with the largest errors, that do not count: a network that has
        time enough learns anomalies as well.
    epochs : int
        Most passes over the sample.
    validation : float
        Share of the sample that a training is validated on.
    device : {"auto", "cpu", "cuda"}
        Where the networks run.
    learning_rate, batch, patience, weight_decay, gradient_clip
        See :class:`fmbdask.models.training.Training`.

    Notes
    -----
    Sources: Sakurada & Yairi 2014, MLSDA '14, 4 (doi:10.1145/2689746.2689747); Rousseeuw 1984, Journal of the
    American Statistical Association 79, 871 (least trimmed squares). Needs torch (the extra ``models``). On
    one machine the same seed gives the same bits on a CPU.
    """

    kind: ClassVar[str] = "autoencoder"
    family: ClassVar[str] = "autoencoders"
    single: ClassVar[str] = "an autoencoder"

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        layers: Sequence[int] = (128, 64, 32, 16),
        networks: int = 2,
        percentile: float | None = 95.0,
        scale: str = "standard",
        trim: float = 0.1,
        epochs: int = 20,
        validation: float = 0.1,
        device: str = "auto",
        learning_rate: float = 2e-3,
        batch: int = 256,
        patience: int = 10,
        weight_decay: float = 1e-5,
        gradient_clip: float = 5.0,
    ) -> None:
        check_scale(scale)
        if not layers or min(layers) < 1:
            raise ConfigError(f"layers of an autoencoder cannot be {list(layers)}: give widths of 1 or more")
        if not 0 <= trim < 1:
            raise ConfigError(f"trim is {trim}: give a share of the rows from 0 to below 1")
        settings = {
            "layers": [int(n) for n in layers], "percentile": percentile, "scale": scale, "trim": trim,
            "learning_rate": learning_rate, "batch": batch, "patience": patience,
            "weight_decay": weight_decay, "gradient_clip": gradient_clip,
        }  # fmt: skip
        super().__init__(
            folds=folds, seed=seed, networks=networks, epochs=epochs, validation=validation, device=device,
            settings=settings,
        )  # fmt: skip
        self.percentile = percentile

    def train_one(self, job: Job) -> None:
        """Train one network."""
        import torch

        own = job.vectors[job.use]
        standard = Standard.of(own[~job.held], self.settings["scale"])
        with np.errstate(over="ignore"):
            inputs = np.clip(standard(own), -CLIP, CLIP)
        data, validation = (torch.from_numpy(inputs[which]) for which in (~job.held, job.held))
        network = self.fresh(standard, job)

        trim = self.settings["trim"]

        def loss(vectors: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = (network(vectors) - vectors).square().mean(dim=1)
            limit = torch.quantile(found.detach(), 1.0 - trim)
            return torch.where(found <= limit, found, 0.0) if trim else found

        history = self.train(job, network, (data,), (validation,), loss)
        self.keep(standard, network)
        self.training.append(history)

    def build(self, inputs: Standard) -> DenseAutoencoder:
        """The network for so many features."""
        from ..models.autoencoder import DenseAutoencoder

        return DenseAutoencoder(len(inputs.centre), self.settings["layers"])

    def score_tile(
        self, inputs: Standard, network: Any, tile: NDArray[np.float32], device: torch.device
    ) -> NDArray[np.float64]:
        """Mean square errors; (n,)."""
        from ..models.inference import apply

        whole = inputs(tile)
        left = whole - apply(network, np.clip(whole, -CLIP, CLIP), device)
        scores: NDArray[np.float64] = np.square(left, dtype=np.float64).mean(axis=1)
        return scores

    def arrays_of(self, inputs: Standard) -> dict[str, NDArray[Any]]:
        """Centre and scale."""
        return inputs.arrays()

    def inputs_from(self, arrays: Mapping[str, NDArray[Any]], width: int) -> Standard:
        """Inverse of :meth:`arrays_of`."""
        return Standard.from_arrays(arrays, width)
