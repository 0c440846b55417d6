"""How improbable a vector is under a normalizing flow that was trained on a sample of the store.

The way of a vector: principal components of the modality (100 by default), each over its deviation, clipped
at 8 deviations; the flow's density; score = -log p. Beyond the clip the density goes on falling
exponentially, with the slope that a normal law has there, so that vectors farther out score more.

Folds share networks: two are enough for no object to be scored by one that saw it, where each leaves half of
the folds out. A flow that says what Mahalanobis distances say already is not worth its time: how far the two
agree is part of every training, see :attr:`Flow.overlap`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, InputError
from ..regions import BLOCK
from .moments import Moments, merge
from .network import Job, NetworkDetector
from .protocol import Report
from .shrinkage import floor
from .summary import Summary

if TYPE_CHECKING:
    import torch

    from ..models.flows import AffineFlow, Layer

#: Components are clipped at so many deviations.
CLIP = 8.0
#: Fewest objects of a fit for each component.
OBJECTS_OF_COMPONENT = 10
#: Arrays of a whitening.
PARTS = ("mean", "axes", "rest")


@dataclass(frozen=True)
class Whitening:
    """Principal components over their deviations.

    Attributes
    ----------
    mean : (width,) float32
    axes : (width, components) float32
        Each over the deviation along it.
    rest : (components,) float32
        What rounding took from the mean, which may be far larger than vectors vary, along each of them.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    rest: NDArray[np.float32]

    @staticmethod
    def of(moments: Moments, modality: str, components: int) -> Whitening:
        """The first components of vectors with these moments.

        Raises
        ------
        InputError
            If the vectors vary along fewer than two directions.
        """
        values, vectors = np.linalg.eigh(moments.covariance)
        most = min(components, moments.count // OBJECTS_OF_COMPONENT)
        use = np.flatnonzero(values > floor(values))[::-1][:most]
        if len(use) < 2:
            raise InputError(
                f"{moments.count} vectors of {modality} differ along {len(use)} directions, a flow needs 2: "
                "give vectors of more features, or of objects that differ"
            )
        axes = vectors[:, use]
        axes *= np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(len(use))]) / np.sqrt(values[use])
        mean = moments.mean.astype(np.float32)
        rest = (mean - moments.mean) @ axes
        return Whitening(mean, axes.astype(np.float32), rest.astype(np.float32))

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Components of vectors (n, width): (n, components)."""
        found: NDArray[np.float32] = np.matmul(vectors - self.mean, self.axes, dtype=np.float32)
        found += self.rest
        return found


class Flow(NetworkDetector[Whitening, "AffineFlow"]):
    """Improbable vectors of one modality, by a normalizing flow.

    Parameters
    ----------
    folds, seed
        As for every detector.
    model_type : {"coupling", "autoregressive"}
        Affine coupling (RealNVP) or masked autoregressive (MAF).
    n_layers, hidden_dim : int
        Size of the flow; each layer has a network with two hidden layers of this width.
    components : int
        Principal components.
    networks : int
        Flows that the folds share, 2 or more where there is more than one fold: each is trained without its
        folds, which it scores. More of them see more of the sample and take longer.
    epochs : int, optional
        Most passes over the sample; as many as make 1200 steps by default.
    validation : float
        Share of the sample that a training is validated on.
    device : {"auto", "cpu", "cuda"}
        Where the networks run.
    learning_rate, schedule, batch, patience, weight_decay, gradient_clip
        See :class:`fmbdask.models.training.Training`.

    Notes
    -----
    Needs torch and zuko (the extra ``models``). On one machine the same seed gives the same
    bits on a CPU.
    """

    kind: ClassVar[str] = "flow"
    family: ClassVar[str] = "normalizing flows"
    single: ClassVar[str] = "a flow"
    packages: ClassVar[tuple[str, ...]] = ("torch", "zuko")
    fewest: ClassVar[int] = 100

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        model_type: str = "coupling",
        n_layers: int = 4,
        hidden_dim: int = 128,
        components: int = 100,
        networks: int = 2,
        epochs: int | None = None,
        validation: float = 0.1,
        device: str = "auto",
        learning_rate: float = 5e-3,
        schedule: str = "cosine",
        batch: int = 512,
        patience: int = 5,
        weight_decay: float = 1e-5,
        gradient_clip: float = 5.0,
    ) -> None:
        if components < 2:
            raise ConfigError(f"{components} components are too few for a flow: give 2 or more")
        settings = {
            "model_type": model_type, "n_layers": n_layers, "hidden_dim": hidden_dim,
            "components": components, "learning_rate": learning_rate, "schedule": schedule, "batch": batch,
            "patience": patience, "weight_decay": weight_decay, "gradient_clip": gradient_clip,
        }  # fmt: skip
        super().__init__(
            folds=folds, seed=seed, networks=networks, epochs=epochs, validation=validation, device=device,
            settings=settings,
        )  # fmt: skip

    @property
    def overlap(self) -> dict[str, float]:
        """How far the flow ranks validation rows as Mahalanobis distances in the same components do.

        ``spearman``: rank correlation of the two; ``top_percent``: share of the 1 % that one puts first which
        the other one does as well; ``gain``: mean log p of a row under the flow over that under a normal law.
        Means over the networks; empty before the first training.
        """
        if not self.training:
            return {}
        names = ("spearman", "top_percent", "gain")
        return {name: float(np.mean([one[name] for one in self.training])) for name in names}

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Train all networks on the sample, and tell how they compare with Mahalanobis distances."""
        super().learn(summary, progress)
        (modality,) = self.modalities
        found = self.overlap
        text = (
            f"flow of {modality}: log p of validation rows {found['gain']:+.2f} over a normal law; against "
            f"Mahalanobis: Spearman {found['spearman']:.3f}, top 1 % shared {found['top_percent']:.2f}"
        )
        if progress is None:
            print(text)
        else:
            progress(self.networks, self.networks, text)

    def train_one(self, job: Job) -> None:
        """Train one flow on principal components."""
        import torch

        vectors, use, held = job.vectors, job.use, job.held
        (modality,) = self.modalities
        moments = merge(Moments.of(vectors[use[i : i + BLOCK]]) for i in range(0, len(use), BLOCK))
        whitening = Whitening.of(moments, modality, self.settings["components"])
        whitened = np.concatenate([whitening(vectors[use[i : i + BLOCK]]) for i in range(0, len(use), BLOCK)])
        inside = (np.abs(whitened) <= CLIP).all(axis=1)  # a few rows far out would have all of the gradient
        data, validation = (torch.from_numpy(whitened[which & inside]) for which in (~held, held))
        network = self.fresh(whitening, job)

        def loss(vectors: torch.Tensor) -> torch.Tensor:
            return -network.log_prob(vectors)

        history = self.train(job, network, (data,), (validation,), loss)
        self.keep(whitening, network)
        own = self.scores_by(np.full(int(held.sum()), job.number), vectors[use[held]])
        self.training.append(history | _compared(own, whitened[held]))

    def score_tile(
        self,
        inputs: Whitening,
        network: tuple[AffineFlow, list[Layer]],
        tile: NDArray[np.float32],
        device: torch.device,
    ) -> NDArray[np.float64]:
        """-log p of the vectors of a tile; (n,)."""
        from ..models.inference import apply

        flow, layers = network
        whitened = inputs(tile)
        inside = np.clip(whitened, -CLIP, CLIP)
        logs = apply(lambda batch: flow.log_prob(batch, layers), inside, device)
        beyond = np.abs(whitened - inside).sum(axis=1, dtype=np.float64)
        scores: NDArray[np.float64] = CLIP * beyond - logs
        return scores

    def ready(self, network: AffineFlow) -> tuple[AffineFlow, list[Layer]]:
        """A flow and its layers, as scoring wants them."""
        return network, network.layers()

    def build(self, inputs: Whitening) -> AffineFlow:
        """The flow of so many components."""
        from ..models.flows import build_flow_model

        return build_flow_model(
            self.settings["model_type"],
            inputs.axes.shape[1],
            self.settings["n_layers"],
            self.settings["hidden_dim"],
        )

    def arrays_of(self, inputs: Whitening) -> dict[str, NDArray[Any]]:
        """Mean and axes."""
        return {"mean": inputs.mean, "axes": inputs.axes, "rest": inputs.rest}

    def inputs_from(self, arrays: Mapping[str, NDArray[Any]], width: int) -> Whitening:
        """Inverse of :meth:`arrays_of`."""
        mean, axes, rest = (arrays[name] for name in PARTS)
        if mean.shape != (width,) or axes.shape != (width, *rest.shape):
            raise ValueError(f"components of {width} features have the shape {axes.shape}")
        return Whitening(mean, axes, rest)


def _compared(scores: NDArray[np.float64], whitened: NDArray[np.float32]) -> dict[str, float]:
    """Compare scores -log p with Mahalanobis distances in the same components, and with a normal law."""
    from scipy.stats import spearmanr

    squares = whitened.astype(np.float64) ** 2
    distances = squares.sum(axis=1)
    top = max(1, round(len(scores) / 100))
    first, other = (set(np.argsort(-s, kind="stable")[:top].tolist()) for s in (scores, distances))
    inside = (squares <= CLIP**2).all(axis=1)
    normal = 0.5 * (distances + whitened.shape[1] * np.log(2.0 * np.pi))
    return {
        "spearman": float(spearmanr(scores, distances).statistic),
        "top_percent": len(first & other) / top,
        "gain": float((normal - scores)[inside].mean()) if inside.any() else 0.0,
    }
