"""How far sequences are from what an LSTM network expects of them, or has been told about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ..errors import ConfigError, InputError
from ..sequences import Shape, unflatten
from .network import LARGEST, Job, NetworkDetector
from .objects import SEQUENCE, Data
from .scan import Scan
from .standard import CLIP, Standard, check_scale
from .stepwise import stepwise

if TYPE_CHECKING:
    import torch

    from ..models.lstm import Network

MODELS = ("forecast", "reconstruction", "supervised")
#: Fewest sequences of either class that a network learns from.
LABELLED = 10


@dataclass(frozen=True)
class Inputs:
    """What goes before and after a network.

    Attributes
    ----------
    standard : Standard
        Of the features of all valid steps.
    scan : Scan or None
        What windows of errors ordinary sequences have; none where sequences are classified.
    """

    standard: Standard
    scan: Scan | None


class Lstm(NetworkDetector[Inputs, "Network"]):
    """Sequences that an LSTM network does not expect.

    Parameters
    ----------
    folds, seed
        As for every detector.
    model : {"forecast", "reconstruction", "supervised"}
        ``forecast``: each step is forecast from those before it, with the scale of its error;
        ``reconstruction``: the sequence is encoded into one vector, and decoded; ``supervised``: the network
        learns from ``fit(labels=...)`` to tell anomalous sequences from ordinary ones, and the score is the
        logarithm of the odds.
    hidden : sequence of int
        Cells of each layer.
    dense : int
        Width of the dense layer of the supervised model.
    networks : int
        Networks that the folds share, 2 or more where there is more than one fold: each is trained without
        its folds, which it scores.
    percentile : float, optional
        Of scores of ordinary objects, above which objects are labelled anomalous; none: p-values decide.
    scale : {"robust", "standard", "none"}
        What features are brought to, see :class:`~fmbdask.anomaly.standard.Standard`. The network sees them
        clipped at 10 scales; errors are of what they are, so that scores go on growing.
    epochs : int, optional
        Most passes over the sample; as many as make 400 steps by default, from 2 to 100.
    validation : float
        Share of the sample that a training is validated on.
    device : {"auto", "cpu", "cuda"}
        Where the networks run.
    learning_rate, batch, patience, weight_decay, gradient_clip
        See :class:`fmbdask.models.training.Training`.

    Notes
    -----
    A supervised model needs many labelled anomalies: from 300 of six kinds among 3000 sequences of
    ``benchmarks/sequences.py`` it learnt next to nothing, where the forecast found most without labels.

    Steps that are not valid contribute to nothing. Needs torch (the extra ``models``). On one machine the
    same seed gives the same bits on a CPU.

    Sources: Malhotra et al. 2015, ESANN, 89 (forecasts); Malhotra et al. 2016, arXiv:1607.00148
    (reconstructions); Hochreiter & Schmidhuber 1997, Neural Computation 9, 1735 (cells).
    """

    kind: ClassVar[str] = "lstm"
    family: ClassVar[str] = "LSTM networks"
    single: ClassVar[str] = "an LSTM network"
    steps: ClassVar[int] = 400
    passes: ClassVar[tuple[int, int]] = (2, 100)

    def __init__(
        self,
        *,
        folds: int = 5,
        seed: int = 0,
        model: str = "forecast",
        hidden: Sequence[int] = (64, 32),
        dense: int = 16,
        networks: int = 2,
        percentile: float | None = None,
        scale: str = "robust",
        epochs: int | None = None,
        validation: float = 0.1,
        device: str = "auto",
        learning_rate: float = 1e-2,
        batch: int = 128,
        patience: int = 10,
        weight_decay: float = 1e-5,
        gradient_clip: float = 1.0,
    ) -> None:
        check_scale(scale)
        if model not in MODELS:
            raise ConfigError(f"there is no LSTM model {model}: give {', '.join(MODELS)}")
        if not hidden or min(*hidden, dense) < 1:
            raise ConfigError(
                f"layers of {list(hidden)} cells and {dense} dense outputs cannot be: give 1 or more of each"
            )
        settings = {
            "model": model, "hidden": [int(n) for n in hidden], "dense": dense, "percentile": percentile,
            "scale": scale, "learning_rate": learning_rate, "batch": batch, "patience": patience,
            "weight_decay": weight_decay, "gradient_clip": gradient_clip,
        }  # fmt: skip
        super().__init__(
            folds=folds, seed=seed, networks=networks, epochs=epochs, validation=validation, device=device,
            settings=settings,
        )  # fmt: skip
        self.percentile, self.supervised = percentile, model == "supervised"

    def begin(
        self, widths: Mapping[str, int], provenance: Mapping[str, Mapping[str, Any]], group: str | None
    ) -> None:
        """Note what is learnt from.

        Raises
        ------
        InputError
            If these are not sequences.
        """
        super().begin(widths, provenance, group)
        if self.shape.steps < 2:
            raise InputError(f"sequences of {self.shape.steps} step have no order: give longer ones")

    @property
    def shape(self) -> Shape:
        """Steps and features of the sequences that it was fitted to.

        Raises
        ------
        InputError
            If it was given vectors.
        """
        (modality,) = self.modalities
        said = self.provenance[modality].get(SEQUENCE)
        if not said:
            raise InputError(
                f"{modality} holds vectors, lstm takes sequences: give dimensions (object, time, feature)"
            )
        return Shape.parse(str(said))

    def train_one(self, job: Job) -> None:
        """Train one network."""
        import torch

        labels = None
        if self.supervised:
            job, labels = _labelled(job)
        values, valid = unflatten(job.vectors[job.use], self.shape)
        standard = Standard.of(values[~job.held][valid[~job.held]], self.settings["scale"])
        with np.errstate(over="ignore"):
            clipped = np.clip(standard(values), -CLIP, CLIP)
        columns = [torch.from_numpy(clipped), torch.from_numpy(valid)]
        if labels is not None:
            columns.append(torch.from_numpy(labels))
        data, validation = ([column[which] for column in columns] for which in (~job.held, job.held))
        del values, clipped, columns
        network = self.fresh(Inputs(standard, None), job)
        history = self.train(job, network, data, validation, self._loss(network, labels))
        self.training.append(history)
        if labels is not None:  # odds as they are among the sequences, not as they were weighed
            with torch.no_grad():
                network.get_parameter("output.bias").sub_(float(np.log(_weight(labels))))
        self.keep(Inputs(standard, None), network)
        if not self.supervised:
            rows = job.use[job.held]
            numbers = np.full(len(rows), job.number)
            errors = self.tiled(numbers, job.vectors[rows], self._errors)
            self._inputs[-1] = Inputs(standard, Scan.of(errors))

    def _loss(self, network: Network, labels: NDArray[np.float32] | None) -> Any:
        import torch

        from ..models.lstm import surprise

        if labels is None:
            return lambda values, valid: surprise(values, valid, *network(values, valid))
        weight = torch.tensor(_weight(labels))

        def loss(values: torch.Tensor, valid: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.binary_cross_entropy_with_logits(
                network(values, valid), wanted, reduction="none", pos_weight=weight.to(values.device)
            )

        return loss

    def build(self, inputs: Inputs) -> Network:
        """The network for such sequences."""
        from ..models.lstm import Classifier, Forecaster, Reconstructor

        shape, hidden = self.shape, self.settings["hidden"]
        if self.settings["model"] == "forecast":
            return Forecaster(shape.features, hidden)
        if self.settings["model"] == "reconstruction":
            return Reconstructor(shape.steps, shape.features, hidden)
        return Classifier(shape.steps, shape.features, hidden, self.settings["dense"])

    def score_tile(
        self, inputs: Inputs, network: Any, tile: NDArray[np.float32], device: torch.device
    ) -> NDArray[np.float64]:
        """How surprising the windows of errors of sequences are, or their log odds; (n,)."""
        if inputs.scan is not None:
            return inputs.scan(self._errors(inputs, network, tile, device))
        import torch

        values, valid = unflatten(tile, self.shape)
        clipped = np.clip(inputs.standard(values), -CLIP, CLIP)
        with torch.inference_mode():
            found = network(torch.from_numpy(clipped).to(device), torch.from_numpy(valid).to(device))
        scores: NDArray[np.float64] = found.cpu().numpy().astype(np.float64)
        return scores

    def _errors(
        self, inputs: Inputs, network: Any, tile: NDArray[np.float32], device: torch.device
    ) -> NDArray[np.float64]:
        """Errors over their scales, (n, steps, features); NaN at steps that are not valid."""
        import torch

        values, valid = unflatten(tile, self.shape)
        whole = inputs.standard(values)
        clipped = torch.from_numpy(np.clip(whole, -CLIP, CLIP)).to(device)
        with torch.inference_mode():
            mean, logs = network(clipped, torch.from_numpy(valid).to(device))
            mean, inverse = mean.cpu().numpy(), torch.exp(-logs).cpu().numpy()
        left = (whole.astype(np.float64) - mean) * inverse
        left[~valid] = np.nan
        found: NDArray[np.float64] = np.clip(left, -(LARGEST**0.4), LARGEST**0.4)
        return found

    def score_times(self, data: Data) -> xr.DataArray:
        """Error of each step, lazily: root mean square over the features, in scales of the expected error.

        Parameters
        ----------
        data : Dataset, DataArray or array
            Sequences as for :meth:`score`.

        Returns
        -------
        DataArray
            (object, time), float64; NaN where a step is not valid.

        Raises
        ------
        InputError
            If it is not fitted, sequences are of another shape, or the model is supervised.
        """
        self.calibrated()
        if self.supervised:
            raise InputError("a supervised LSTM scores whole sequences: fit model='forecast' to score steps")
        return stepwise(self, data, self.shape.steps)

    def times_of(self, rows: Any) -> NDArray[np.float64]:
        """Errors of the steps of rows that are valid; (n, steps)."""
        (modality,) = self.modalities
        numbers = self.network_of(rows.folds(self.folds))
        errors = self.tiled(numbers, rows.vectors[modality], self._errors)
        found: NDArray[np.float64] = np.sqrt(np.square(errors).mean(axis=2))
        return found

    def arrays_of(self, inputs: Inputs) -> dict[str, NDArray[Any]]:
        """Centre and scale, and what windows of errors are ordinary."""
        return inputs.standard.arrays() | ({} if inputs.scan is None else inputs.scan.arrays())

    def inputs_from(self, arrays: Mapping[str, NDArray[Any]], width: int) -> Inputs:
        """Inverse of :meth:`arrays_of`."""
        if self.shape.width != width:
            raise ValueError(f"sequences of {self.shape} have {self.shape.width} numbers, not {width}")
        scan = None if self.supervised else Scan.from_arrays(arrays)
        return Inputs(Standard.from_arrays(arrays, self.shape.features), scan)


def _labelled(job: Job) -> tuple[Job, NDArray[np.float32]]:
    """The rows of a training that have labels; of each class its share validates.

    Raises
    ------
    InputError
        If there are too few of one class.
    """
    sentence = "fit(data, labels=...) with 0 for ordinary and 1 for anomalous sequences"
    if job.labels is None:
        raise InputError(f"a supervised LSTM learns from labels: {sentence}")
    for value, name in ((0, "ordinary"), (1, "anomalous")):
        count = int((job.labels == value).sum())
        if count < LABELLED:
            raise InputError(
                f"{count} sequences labelled {name} to train a supervised LSTM on are too few: {sentence}, "
                f"at least {2 * LABELLED} of each"
            )
    share, held = job.held.mean(), np.zeros(len(job.use), bool)
    order = np.argsort(job.keys, kind="stable")
    for value in (0, 1):
        own = order[job.labels[order] == value]
        held[own[: max(1, round(share * len(own)))]] = True
    known = job.labels >= 0
    labels = job.labels[known]
    own = replace(job, use=job.use[known], held=held[known], labels=labels, keys=job.keys[known])
    return own, labels.astype(np.float32)


def _weight(labels: NDArray[np.float32]) -> float:
    """How much more an anomalous sequence counts than an ordinary one: the root of how much rarer it is."""
    return float(np.sqrt(max(1.0, (labels == 0).sum() / (labels == 1).sum())))
