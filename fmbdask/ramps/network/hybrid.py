"""The network beside the rules: it is asked about what the rules propose, and what it accepts becomes events.

Where the network looks at the whole exposure, it proposes as well. Events of the rules stay as they are. A
proposal becomes a cosmic ray where its confidence, calibrated on exposures that the network was not trained
on, is at least what is asked for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...errors import InputError
from ..config import DetectionConfig
from ..events import STEP, event_table
from ..prepare import Prepared
from ..rates import FEWEST
from ..region import RegionResult
from ..surroundings import ReadBlock
from .everywhere import propose_everywhere
from .evidence import Confidence, evidence, padded
from .inputs import CHANNELS, MOST, SOFT
from .proposals import Proposals, propose
from .shipped import network_folder
from .threads import in_threads
from .windows import Place, by_block, read_of, windows

if TYPE_CHECKING:
    from ...models.handles import OpenNetwork

#: Who found an event: values of the column ``found_by``.
RULES, NETWORK = "rules", "network"
#: Proposals that one thread asks about: they lie near to each other.
AT_ONCE = 128
#: What the class is called that proposals are asked for.
PROPOSED = "cosmic_ray"


def normalisation() -> dict[str, Any]:
    """How the inputs of a network are made, as it is kept with the network."""
    return {"channels": list(CHANNELS), "soft": SOFT, "most": MOST}


def check_network(network: OpenNetwork, name: str) -> Confidence:
    """Refuse a network that was trained on other inputs, or answers something else.

    Returns
    -------
    Confidence
        Its calibration.

    Raises
    ------
    InputError
        If it cannot be used.
    """
    if PROPOSED not in network.architecture.classes:
        classes = ", ".join(network.architecture.classes)
        raise InputError(f"{name} tells {classes} apart and knows no {PROPOSED}: give another model")
    given = {key: network.normalisation.get(key) for key in normalisation()}
    if given != normalisation() or network.architecture.channels != len(CHANNELS):
        raise InputError(
            f"{name} was trained on inputs of another kind ({given}): train it again with `fmbdask train "
            "unet`"
        )
    if "confidence" not in network.provenance:
        raise InputError(f"{name} has no calibration of its confidence: train it with `fmbdask train unet`")
    return Confidence.from_dict(network.provenance["confidence"])


def ask(
    proposals: Proposals,
    network: OpenNetwork,
    calibration: Confidence,
    prepared: Sequence[Prepared],
    read: ReadBlock,
    unusable: NDArray[np.bool_],
    progress: Callable[[int, int, str], None] | None = None,
    threads: int = 1,
) -> NDArray[np.float64]:
    """Confidence of each proposal.

    Parameters
    ----------
    proposals : Proposals
    network : OpenNetwork
    calibration : Confidence
        See :func:`check_network`.
    prepared : sequence of Prepared
        One an integration.
    read : callable
        Reads a region, (T, ny, nx).
    unusable : (integrations, y, x) bool
        Pixels no read of which may be used.
    progress : callable, optional
        Called with (parts done, parts, text).
    threads : int
        That ask at the same time, about :data:`AT_ONCE` proposals each.

    Returns
    -------
    (proposals,) float64 array
        In [0, 1].
    """
    code = network.architecture.classes.index(PROPOSED)
    groups = [proposals.group(k) for k in range(len(proposals))]
    places = [Place(*(int(g[name][0]) for name in ("integration", "y", "x", "frame"))) for g in groups]
    order = by_block(places, prepared)
    parts = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]

    def said(part: list[int]) -> list[float]:
        asked: deque[tuple[NDArray[np.bool_], int]] = deque()

        def patches() -> Iterator[NDArray[np.float32]]:
            for number, window in windows([places[k] for k in part], prepared, read, unusable):
                values, (t0, y0, x0) = padded(window.values), window.start
                rows, columns = values.shape[2:]
                group = np.zeros((rows, columns), np.bool_)
                own = groups[part[number]]
                y, x = own["y"] - y0, own["x"] - x0
                inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
                group[y[inside], x[inside]] = True
                p = prepared[window.place.integration]
                asked.append((group, read_of(p, window.place.frame) - t0))
                yield values

        answers = (answer[code] for answers in _answers(network, patches()) for answer in answers)
        return [evidence(answer, *asked.popleft()) for answer in answers]

    found = np.zeros(len(proposals))
    every = in_threads(said, parts, threads, progress, f"times {AT_ONCE} proposals")
    found[order] = np.array([one for part in every for one in part])
    return calibration(found, proposals.score)


def _answers(network: OpenNetwork, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Probabilities (some, classes, reads, rows, columns) of patches, in their order."""
    from ...models.inference import one_torch_thread

    with one_torch_thread():
        yield from network.batches(patches)


def pixels_without_reads(results: Sequence[RegionResult], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Pixels (integrations, y, x) too few reads of which were used."""
    out = np.ones(shape, np.bool_)
    for r in results:
        out[r.region.integration, r.region.y, r.region.x] = ~(r.maps["reads"] >= FEWEST)
    return out


def with_proposals(
    table: pd.DataFrame,
    steps: NDArray[Any],
    owner: NDArray[np.int64],
    taken: NDArray[np.bool_],
    results: Sequence[RegionResult],
    prepared: Sequence[Prepared],
    config: DetectionConfig,
    read: ReadBlock,
    progress: Callable[[int, int, str], None] | None = None,
    threads: int = 1,
) -> tuple[pd.DataFrame, NDArray[Any], NDArray[np.int64]]:
    """Find events beside those of the rules: the proposals that the network of a configuration accepts.

    Parameters
    ----------
    table : DataFrame
        Events of the rules, with their number in ``old_id``.
    steps : array of dtype :data:`~fmbdask.ramps.events.STEP`
    owner : (n,) int64 array
        Event of each step, -1 for none.
    taken : (integrations, y, x) bool array
        Pixels of events.
    results : sequence of RegionResult
        With their maps.
    prepared : sequence of Prepared
        One an integration.
    config : DetectionConfig
        With a model.
    read : callable
        Reads a region, (T, ny, nx).
    progress : callable, optional
        Called with (done, all, text) of blocks and proposals.
    threads : int
        That look for proposals at the same time.

    Returns
    -------
    events : DataFrame
        What was accepted, with numbers beyond those of the table, and with ``confidence``.
    steps, owner
        The same with those of the accepted proposals.

    Raises
    ------
    InputError
        If the model cannot be used.
    """
    from ...models import need

    need("networks", "torch")
    from ...models.handles import ModelHandle

    assert config.model is not None
    handle = ModelHandle.of(network_folder(config.model))
    if config.model_sha256 is not None:
        handle = ModelHandle(handle.path, config.model_sha256)
    network = handle.load(device=config.model_device, precision=config.model_precision)
    calibration = check_network(network, config.model)
    unusable = pixels_without_reads(results, (taken.shape[0], taken.shape[1], taken.shape[2]))
    events = steps[owner >= 0]
    proposals = propose(prepared, read, unusable, taken, events, progress, threads)
    if config.model_everywhere:
        code = network.architecture.classes.index(PROPOSED)
        proposals = propose_everywhere(
            proposals, network, code, prepared, read, unusable, taken, events, progress, threads
        )
    if not len(proposals):
        return table[:0], steps, owner
    confidence = ask(proposals, network, calibration, prepared, read, unusable, progress, threads)
    return accept(table, steps, owner, proposals, confidence, config.model_confidence, prepared)


def accept(
    table: pd.DataFrame,
    steps: NDArray[Any],
    owner: NDArray[np.int64],
    proposals: Proposals,
    confidence: NDArray[np.float64],
    least: float,
    prepared: Sequence[Prepared],
) -> tuple[pd.DataFrame, NDArray[Any], NDArray[np.int64]]:
    """Make events of the proposals whose confidence is at least ``least``; see :func:`with_proposals`."""
    accepted = np.flatnonzero(confidence >= least)
    if not len(accepted):
        return table[:0], steps, owner
    groups = [proposals.group(int(k)) for k in accepted]
    own = np.concatenate(groups)
    number = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
    more = np.zeros(len(own), STEP)
    for name in ("integration", "frame", "y", "x", "amplitude", "significance"):
        more[name] = own[name]
    for p in prepared:
        here = more["integration"] == p.integration
        more["sigma"][here] = np.sqrt(p.noise.variance[p.detector.amplifier[more["x"][here]]])
        more["threshold"][here] = p.isolated[0]
    known = {
        "first_frame": np.array([int(np.median(g["frame"])) for g in groups]),
        "snowball": np.zeros(len(groups), np.bool_),
        "significance": proposals.score[accepted],
        "excess": proposals.score[accepted] - prepared[0].isolated[0],
    }
    found = event_table(more, number, known).rename(columns={"event_id": "old_id"})
    place = found["old_id"].to_numpy()
    first = int(max(owner.max(initial=-1), table["old_id"].max() if len(table) else -1)) + 1
    found = found.assign(old_id=place + first, found_by=NETWORK, confidence=confidence[accepted][place])
    return found, np.concatenate([steps, more]), np.concatenate([owner, number + first])
