"""How improbable a vector is under a normalizing flow that was trained on a sample of the store.

The way of a vector: principal components of the modality (100 by default), each over its deviation, clipped
at 8 deviations; the flow's density; score = -log p. Beyond the clip the density goes on falling
exponentially, with the slope that a normal law has there, so that vectors farther out score more.

Folds share networks: two are enough for no object to be scored by one that saw it, where each leaves half of
the folds out. A flow that says what Mahalanobis distances say already is not worth its time: how far the two
agree is part of every training, see :attr:`Flow.overlap`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import ConfigError, InputError
from ..models import need
from ..regions import BLOCK
from .detector import Detector, Report
from .moments import Moments, merge
from .rows import Rows, by_tiles
from .shrinkage import floor
from .summary import Summary

if TYPE_CHECKING:
    import torch

    from ..models.flows import AffineFlow, Layer

#: Components are clipped at so many deviations.
CLIP = 8.0
#: Score of a row whose density overflows.
LARGEST = 1e30
#: Fewest objects of a fit for each component, and of a training.
OBJECTS_OF_COMPONENT, FEWEST = 10, 100
#: Arrays of a whitening.
PARTS = ("mean", "axes", "rest")
#: Settings that go to the training as they are.
TRAINING = ("learning_rate", "schedule", "batch", "patience", "weight_decay", "gradient_clip")
#: Steps of a training, if the number of epochs is not given.
STEPS = 1200

_opening, _building = threading.Lock(), threading.Lock()


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


class Flow(Detector):
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
    #: Components come from the sample, so that a flow is the same whichever detectors learn beside it.
    uses_moments: ClassVar[bool] = False

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
        super().__init__(folds=folds, seed=seed)
        if folds > 1 and networks < 2:
            raise ConfigError(f"{networks} networks for {folds} folds cannot leave any out: give 2 or more")
        if not 0 < validation < 1:
            raise ConfigError(f"validation is {validation}: give a share of the sample between 0 and 1")
        if components < 2:
            raise ConfigError(f"{components} components are too few for a flow: give 2 or more")
        self.settings: dict[str, Any] = {
            "model_type": model_type, "n_layers": n_layers, "hidden_dim": hidden_dim,
            "components": components, "validation": validation, "learning_rate": learning_rate,
            "schedule": schedule, "batch": batch, "patience": patience, "weight_decay": weight_decay,
            "gradient_clip": gradient_clip,
        }  # fmt: skip
        self.networks, self.epochs, self.device = min(networks, folds), epochs, device
        self._forget()

    def _forget(self) -> None:
        #: What happened in the training of each network: losses, and how it compares with Mahalanobis.
        self.training: list[dict[str, Any]] = []
        self._whitenings: list[Whitening] = []
        self._weights: list[dict[str, NDArray[np.float32]]] = []
        self._opened: tuple[torch.device, list[tuple[AffineFlow, list[Layer]]]] | None = None

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

    def network_of(self, fold: NDArray[np.int64]) -> NDArray[np.int64]:
        """Network that scores a fold, and was trained without it."""
        return fold * self.networks // self.folds

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Train all networks on the sample."""
        need("normalizing flows", "torch", "zuko")
        self._forget()
        (modality,) = self.modalities
        for number in range(self.networks):
            self._learn_one(number, modality, summary, progress)
        found = self.overlap
        text = (
            f"flow of {modality}: log p of validation rows {found['gain']:+.2f} over a normal law; against "
            f"Mahalanobis: Spearman {found['spearman']:.3f}, top 1 % shared {found['top_percent']:.2f}"
        )
        if progress is None:
            print(text)
        else:
            progress(self.networks, self.networks, text)

    def _learn_one(self, number: int, modality: str, summary: Summary, progress: Report | None) -> None:
        import torch

        from ..models.inference import device_of
        from ..models.training import Training, train

        wanted, sample = self.settings, summary.sample
        out = sample.valid[modality] & np.isin(self.network_of(sample.folds(self.folds)), number)
        use = np.flatnonzero(sample.valid[modality] & ~out if self.networks > 1 else out)
        if len(use) < FEWEST:
            raise InputError(
                f"{len(use)} objects to train a flow of {modality} on are too few: give at least {2 * FEWEST}"
            )
        vectors, keys = sample.vectors[modality], sample.keys[use]
        moments = merge(Moments.of(vectors[use[i : i + BLOCK]]) for i in range(0, len(use), BLOCK))
        whitening = Whitening.of(moments, modality, wanted["components"])
        whitened = np.concatenate([whitening(vectors[use[i : i + BLOCK]]) for i in range(0, len(use), BLOCK)])
        held = np.zeros(len(use), bool)
        held[np.argsort(keys, kind="stable")[: max(1, round(wanted["validation"] * len(use)))]] = True
        inside = (np.abs(whitened) <= CLIP).all(axis=1)  # a few rows far out would have all of the gradient
        data, validation = (torch.from_numpy(whitened[which & inside]) for which in (~held, held))

        steps_of_epoch = max(1, len(data) // int(wanted["batch"]))
        epochs = self.epochs or int(np.clip(STEPS // steps_of_epoch, 5, 100))
        options = Training(epochs=epochs, **{name: wanted[name] for name in TRAINING})
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        network = self._build(whitened.shape[1])
        network.reset(torch.Generator().manual_seed(seed))
        network.to(device_of(self.device))

        def loss(vectors: torch.Tensor) -> torch.Tensor:
            return -network.log_prob(vectors)

        def tell(done: int, total: int, text: str) -> None:
            if progress is not None:
                progress(number * total + done, self.networks * total, f"flow of {modality}: {text}")

        history = train(network, (data,), (validation,), loss, options, seed=seed, progress=tell)
        self._whitenings.append(whitening)
        self._weights.append({name: p.detach().cpu().numpy() for name, p in network.named_parameters()})
        own = self._scores(np.full(int(held.sum()), number), vectors[use[held]])
        compared = _compared(own, whitened[held])
        self.training.append({"rows": len(data), "epochs": epochs, **history.as_dict(), **compared})

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """-log p of each row under the flow that never saw its fold."""
        (modality,) = self.modalities
        return self._scores(self.network_of(rows.folds(self.folds)), rows.vectors[modality])

    def _scores(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """-log p of vectors (n, width) under the networks of these numbers, in tiles."""
        need("normalizing flows", "torch", "zuko")
        from ..models.inference import apply, device_of, one_torch_thread

        device = device_of(self.device)
        opened = self._open(device)

        def density(number: int, tile: NDArray[np.float32]) -> NDArray[np.float64]:
            network, layers = opened[number]
            whitened = self._whitenings[number](tile)
            inside = np.clip(whitened, -CLIP, CLIP)
            logs = apply(lambda batch: network.log_prob(batch, layers), inside, device)
            beyond = np.abs(whitened - inside).sum(axis=1, dtype=np.float64)
            scores: NDArray[np.float64] = CLIP * beyond - logs
            return scores

        with one_torch_thread(), np.errstate(over="ignore", invalid="ignore"):
            scores: NDArray[np.float64] = by_tiles([vectors], numbers, self.networks, density)
        return np.where(np.isfinite(scores), np.minimum(scores, LARGEST), LARGEST)

    def _open(self, device: torch.device) -> list[tuple[AffineFlow, list[Layer]]]:
        """The networks on a device, built once in a process."""
        import torch

        with _opening:
            if (
                self._opened is None
                or self._opened[0] != device
                or len(self._opened[1]) != len(self._weights)
            ):
                networks = []
                for whitening, weights in zip(self._whitenings, self._weights, strict=True):
                    network = self._build(whitening.axes.shape[1])
                    with torch.inference_mode():
                        for name, values in network.named_parameters():
                            values.copy_(torch.from_numpy(weights[name]))
                        network.to(device)
                        networks.append((network, network.layers()))
                self._opened = (device, networks)
            return self._opened[1]

    def _build(self, dim: int) -> AffineFlow:
        import torch

        from ..models.flows import build_flow_model

        with _building, torch.random.fork_rng(devices=[]):  # zuko draws weights that are replaced anyhow
            return build_flow_model(
                self.settings["model_type"], dim, self.settings["n_layers"], self.settings["hidden_dim"]
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def state(self) -> Checkpoint:
        """Settings, transforms, weights, and what happened in the training."""
        arrays: dict[str, NDArray[Any]] = {}
        for k, (whitening, weights) in enumerate(zip(self._whitenings, self._weights, strict=True)):
            arrays |= {f"{k}.mean": whitening.mean, f"{k}.axes": whitening.axes, f"{k}.rest": whitening.rest}
            arrays |= {f"{k}.network.{name}": values for name, values in weights.items()}
        options = self.settings | {"networks": self.networks, "epochs": self.epochs}
        meta = {"options": options, "training": self.training}
        return Checkpoint(self.kind, arrays, meta)

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        made = Flow(folds=self.folds, seed=self.seed, **saved.meta["options"])
        self.settings, self.networks = made.settings, made.networks
        self.epochs, self.device = made.epochs, made.device
        self._forget()
        self.training = [dict(one) for one in saved.meta["training"]]
        (width,) = self.widths.values()
        for name, array in saved.arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
        for k in range(self.networks):
            mean, axes, rest = (saved.arrays[f"{k}.{name}"] for name in PARTS)
            if mean.shape != (width,) or axes.shape != (width, *rest.shape):
                raise ValueError(f"components of {width} features have the shape {axes.shape}")
            start = f"{k}.network."
            self._whitenings.append(Whitening(mean, axes, rest))
            self._weights.append({n[len(start) :]: v for n, v in saved.arrays.items() if n.startswith(start)})


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
