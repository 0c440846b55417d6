"""What detectors with networks have in common: which folds share one, its training, its weights, its use.

Two networks are enough for no object to be scored by one that saw it, where each leaves half of the folds
out. They are trained on the sample; their weights are kept as arrays, and are put into a torch module once in
a process. They score tiles of one shape, on one torch thread, so that a row has the same bits whatever is
beside it.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checkpoints import Checkpoint
from ..errors import ConfigError, InputError
from ..models import need
from .detector import Detector
from .protocol import Report
from .rows import Rows, by_tiles
from .summary import Summary

if TYPE_CHECKING:
    import torch

    from ..models.training import History

#: Score of a row whose own overflows.
LARGEST = 1e30
#: Settings that go to the training as they are.
TRAINING = ("learning_rate", "schedule", "batch", "patience", "weight_decay", "gradient_clip")

T = TypeVar("T")
N = TypeVar("N", bound="torch.nn.Module")
_opening, _building = threading.Lock(), threading.Lock()


@dataclass(frozen=True)
class Job:
    """The training of one network.

    Attributes
    ----------
    number : int
        Of the network.
    vectors : (n, width) float32
        Of the whole sample.
    use : (m,) int
        Places of the rows that the network may see.
    held : (m,) bool
        Which of these validate it: those with the smallest keys.
    keys : (m,) uint64
        Hashes of their ids.
    labels : (m,) int8, optional
        0 ordinary, 1 anomalous, -1 not known.
    seed : int
    tell : callable
        Progress.
    """

    number: int
    vectors: NDArray[np.float32]
    use: NDArray[np.int64]
    held: NDArray[np.bool_]
    keys: NDArray[np.uint64]
    labels: NDArray[np.int8] | None
    seed: int
    tell: Callable[[int, int, str], None]


class NetworkDetector(Detector, Generic[T, N]):
    """Scores of one modality by networks ``N`` that the folds share; ``T`` is what turns vectors into inputs.

    Parameters
    ----------
    folds, seed
        As for every detector.
    networks : int
        Networks that the folds share, 2 or more where there is more than one fold: each is trained without
        its folds, which it scores. More of them see more of the sample and take longer.
    epochs : int, optional
        Most passes over the sample; as many as make :attr:`steps` by default.
    validation : float
        Share of the sample that a training is validated on.
    device : {"auto", "cpu", "cuda"}
        Where the networks run.
    settings : mapping
        All others, as the family's parameters are called.
    """

    #: Inputs come from the sample, so that a network is the same whichever detectors learn beside it.
    uses_moments: ClassVar[bool] = False
    #: What the family is called in messages, what one of its networks is, and the packages that it needs.
    family: ClassVar[str]
    single: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    #: Fewest objects of the training of one network.
    fewest: ClassVar[int] = 20
    #: Steps of a training, if the number of epochs is not given.
    steps: ClassVar[int] = 1200
    #: Fewest and most passes over the sample that make up these.
    passes: ClassVar[tuple[int, int]] = (5, 100)

    def __init__(
        self,
        *,
        folds: int,
        seed: int,
        networks: int,
        epochs: int | None,
        validation: float,
        device: str,
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__(folds=folds, seed=seed)
        if folds > 1 and networks < 2:
            raise ConfigError(f"{networks} networks for {folds} folds cannot leave any out: give 2 or more")
        if not 0 < validation < 1:
            raise ConfigError(f"validation is {validation}: give a share of the sample between 0 and 1")
        self.settings: dict[str, Any] = {**settings, "validation": validation}
        self.networks, self.epochs, self.device = min(networks, folds), epochs, device
        self._forget()

    def _forget(self) -> None:
        #: What happened in the training of each network.
        self.training: list[dict[str, Any]] = []
        self._inputs: list[T] = []
        self._weights: list[dict[str, NDArray[np.float32]]] = []
        self._opened: tuple[torch.device, list[Any]] | None = None

    # What a family writes.

    @abstractmethod
    def train_one(self, job: Job) -> None:
        """Train one network, and :meth:`keep` it."""

    @abstractmethod
    def build(self, inputs: T) -> N:
        """The network for such inputs, with any weights."""

    @abstractmethod
    def score_tile(
        self, inputs: T, network: Any, tile: NDArray[np.float32], device: torch.device
    ) -> NDArray[np.float64]:
        """Scores of the vectors of a tile, (n,), by what :meth:`ready` made of a network."""

    @abstractmethod
    def arrays_of(self, inputs: T) -> dict[str, NDArray[Any]]:
        """What is saved of what turns vectors into inputs."""

    @abstractmethod
    def inputs_from(self, arrays: Mapping[str, NDArray[Any]], width: int) -> T:
        """Inverse of :meth:`arrays_of`; raises ValueError or KeyError where these cannot be used."""

    def ready(self, network: N) -> Any:
        """What scoring wants of a network that is on its device."""
        return network

    # What all have.

    def network_of(self, fold: NDArray[np.int64]) -> NDArray[np.int64]:
        """Network that scores a fold, and was trained without it."""
        return fold * self.networks // self.folds

    def learn(self, summary: Summary, progress: Report | None = None) -> None:
        """Train all networks on the sample."""
        need(self.family, *self.packages)
        self._forget()
        (modality,) = self.modalities
        for number in range(self.networks):
            self.train_one(self._job(number, modality, summary.sample, progress))

    def _job(self, number: int, modality: str, sample: Rows, progress: Report | None) -> Job:
        valid = sample.valid[modality]
        out = valid & (self.network_of(sample.folds(self.folds)) == number)
        use = np.flatnonzero(valid & ~out if self.networks > 1 else out)
        if len(use) < self.fewest:
            raise InputError(
                f"{len(use)} objects to train {self.single} of {modality} on are too few: give at least "
                f"{2 * self.fewest}"
            )
        keys, groups = sample.keys[use], sample.groups[use]
        whole = 1 < len(np.unique(groups)) < len(groups)  # windows of one block overlap
        order = groups if whole else keys
        count = max(1, round(self.settings["validation"] * len(use)))
        held = order <= np.sort(order)[count - 1]
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])

        def tell(done: int, total: int, text: str) -> None:
            if progress is not None:
                name = f"{self.kind} of {modality}"
                progress(number * total + done, self.networks * total, f"{name}: {text}")

        labels = None if sample.labels is None else sample.labels[use]
        return Job(number, sample.vectors[modality], use, held, keys, labels, seed, tell)

    def train(
        self,
        job: Job,
        network: N,
        data: Sequence[torch.Tensor],
        validation: Sequence[torch.Tensor],
        loss: Callable[..., torch.Tensor],
    ) -> dict[str, Any]:
        """Train a network in place, on its device; returns what is kept of what happened."""
        from ..models.inference import device_of
        from ..models.training import Training, train

        each = max(1, len(data[0]) // int(self.settings["batch"]))
        epochs = self.epochs or int(np.clip(self.steps // each, *self.passes))
        options = Training(
            epochs=epochs, **{name: self.settings[name] for name in TRAINING if name in self.settings}
        )
        network.to(device_of(self.device))
        history: History = train(network, data, validation, loss, options, seed=job.seed, progress=job.tell)
        return {"rows": len(data[0]), "epochs": epochs, **history.as_dict()}

    def keep(self, inputs: T, network: N) -> None:
        """Note a network that has been trained."""
        self._inputs.append(inputs)
        self._weights.append({name: p.detach().cpu().numpy() for name, p in network.named_parameters()})

    def score_rows(self, rows: Rows) -> NDArray[np.float64]:
        """Score of each row by the network that never saw its fold."""
        (modality,) = self.modalities
        return self.scores_by(self.network_of(rows.folds(self.folds)), rows.vectors[modality])

    def scores_by(self, numbers: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of vectors (n, width) by the networks of these numbers (n,); finite."""
        scores = self.tiled(numbers, vectors, self.score_tile)
        return np.where(np.isfinite(scores), np.minimum(scores, LARGEST), LARGEST)

    def tiled(
        self,
        numbers: NDArray[np.int64],
        vectors: NDArray[np.float32],
        score: Callable[[T, Any, NDArray[np.float32], torch.device], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Apply a function to tiles of vectors, each of one network."""
        need(self.family, *self.packages)
        from ..models.inference import device_of, one_torch_thread

        device = device_of(self.device)
        opened = self._open(device)

        def apply(number: int, tile: NDArray[np.float32]) -> NDArray[np.float64]:
            return score(self._inputs[number], opened[number], tile, device)

        with one_torch_thread(), np.errstate(over="ignore", invalid="ignore"):
            found: NDArray[np.float64] = by_tiles([vectors], numbers, self.networks, apply)
        return found

    def _open(self, device: torch.device) -> list[Any]:
        """The networks on a device, built once in a process."""
        import torch

        with _opening:
            if (
                self._opened is None
                or self._opened[0] != device
                or len(self._opened[1]) != len(self._weights)
            ):
                networks = []
                for inputs, weights in zip(self._inputs, self._weights, strict=True):
                    network = self.built(inputs)
                    own = dict(network.named_parameters())
                    if {n: tuple(p.shape) for n, p in own.items()} != {
                        n: w.shape for n, w in weights.items()
                    }:
                        raise InputError(
                            f"the saved {self.kind} model has weights of other shapes than its settings say: "
                            "train it again"
                        )
                    with torch.inference_mode():
                        for name, values in own.items():
                            values.copy_(torch.from_numpy(weights[name]))
                        network.to(device).eval()
                        networks.append(self.ready(network))
                self._opened = (device, networks)
            return self._opened[1]

    def built(self, inputs: T) -> N:
        """A new network; the state of torch's own generator stays as it is."""
        import torch

        with _building, torch.random.fork_rng(devices=[]):  # layers draw weights that are replaced anyhow
            return self.build(inputs)

    def fresh(self, inputs: T, job: Job) -> N:
        """A new network with weights drawn for a training."""
        import torch

        network = self.built(inputs)
        reset: Any = network.reset
        reset(torch.Generator().manual_seed(job.seed))
        return network

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def state(self) -> Checkpoint:
        """Settings, what makes inputs, weights, and what happened in the training."""
        arrays: dict[str, NDArray[Any]] = {}
        for k, (inputs, weights) in enumerate(zip(self._inputs, self._weights, strict=True)):
            arrays |= {f"{k}.{name}": values for name, values in self.arrays_of(inputs).items()}
            arrays |= {f"{k}.network.{name}": values for name, values in weights.items()}
        options = self.settings | {"networks": self.networks, "epochs": self.epochs}
        return Checkpoint(self.kind, arrays, {"options": options, "training": self.training})

    def restore(self, saved: Checkpoint) -> None:
        """Inverse of :meth:`state`."""
        made = type(self)(folds=self.folds, seed=self.seed, **saved.meta["options"])
        self.__dict__ |= {name: made.__dict__[name] for name in made.__dict__.keys() - self.__dict__.keys()}
        self.training = [dict(one) for one in saved.meta["training"]]
        (width,) = self.widths.values()
        for name, array in saved.arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
        for k in range(self.networks):
            own = {n.removeprefix(f"{k}."): v for n, v in saved.arrays.items() if n.startswith(f"{k}.")}
            weights = {n.removeprefix("network."): v for n, v in own.items() if n.startswith("network.")}
            self._inputs.append(self.inputs_from(own, width))
            self._weights.append(weights)
