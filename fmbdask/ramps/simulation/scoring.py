"""Score a catalogue of detections against the truth of a simulated exposure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from .columns import KINDS
from .truth import Truth

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Limits:
    """Which true events must be found, and how close a detection must be.

    Attributes
    ----------
    snr, peak_sigma : float
        A cosmic ray counts from this ideal signal-to-noise ratio, or from this step in its best pixel
        [sigma].
    telegraph_sigma : float
        A telegraph pixel counts from this amplitude [sigma] ...
    transitions : int
        ... with this many transitions inside the exposure ...
    dwell : float
        ... and this mean dwell time [frame].
    distance : float
        Largest distance of a detection from a pixel of the cosmic ray [pixel].
    strong : float
        Steps of at least this must be found within ``frames_strong`` frames, fainter ones within
        ``frames_faint`` [sigma].
    """

    snr: float = 8.0
    peak_sigma: float = 6.0
    telegraph_sigma: float = 3.0
    transitions: int = 3
    dwell: float = 2.0
    distance: float = 2.0
    strong: float = 6.0
    frames_strong: int = 1
    frames_faint: int = 6


@dataclass(frozen=True)
class KindScore:
    """Score of one kind of event.

    Attributes
    ----------
    true, found : int
        True events that count, and those of them that were found.
    detected, false, ignored : int
        Detections of this kind; those that match nothing, or an event found already; those of true events
        fainter than the limit, which are neither right nor wrong.
    frame_errors : (found,) array
        Detected less true first frame of the found events [frame].
    """

    true: int
    found: int
    detected: int
    false: int
    ignored: int
    frame_errors: NDArray[np.int64]

    @property
    def completeness(self) -> float:
        """Share of the true events that was found; NaN when there are none."""
        return self.found / self.true if self.true else float("nan")

    @property
    def purity(self) -> float:
        """Share of right ones among the detections that are right or wrong; NaN when there are none."""
        judged = self.found + self.false
        return self.found / judged if judged else float("nan")

    def __str__(self) -> str:
        right = int((self.frame_errors == 0).sum())
        return (
            f"found {self.found} of {self.true} ({self.completeness:.3f}), {right} at the very frame; "
            f"{self.false} of {self.detected} false (purity {self.purity:.3f}), {self.ignored} ignored"
        )


@dataclass(frozen=True)
class Score:
    """Scores of all kinds, and what became of each event.

    Attributes
    ----------
    kinds : dict
        :class:`KindScore` by type.
    missed : DataFrame
        True events that count and were not found.
    false : DataFrame
        Detections that match nothing.
    """

    kinds: dict[str, KindScore]
    missed: pd.DataFrame
    false: pd.DataFrame

    def __str__(self) -> str:
        return "\n".join(f"{kind:16s} {score}" for kind, score in self.kinds.items())


def match(detections: pd.DataFrame, truth: Truth, limits: Limits | None = None) -> Score:
    """Score detections, each kind by itself: an event takes one detection, a detection one event.

    A cosmic ray matches within ``limits.distance`` of one of its pixels, a telegraph detection on the pixel
    itself, a snowball within its core radius; cosmic rays and snowballs within the tolerance in frames as
    well. The most significant detection chooses first. A cosmic ray reported on a telegraph pixel that
    switches fewer times than ``limits.transitions`` is ignored: such a pixel shows single steps.

    Parameters
    ----------
    detections : DataFrame
        Columns ``type``, ``y``, ``x``, ``first_frame`` and, where present, ``peak_y``, ``peak_x``,
        ``significance``.
    truth : Truth
    limits : Limits, optional

    Returns
    -------
    Score
    """
    import pandas as pd

    limits = limits or Limits()
    counts = counted(truth.events, limits)
    kinds = {}
    missed, false = [], []
    for kind in KINDS:
        true = truth.events[truth.events["type"] == kind]
        pixels = truth.pixels[truth.pixels["type"] == kind]
        own = detections[detections["type"] == kind]
        if "significance" in own:
            own = own.sort_values("significance", ascending=False, kind="stable")
        outcome = _Outcome(counts[true.index].to_numpy(np.bool_))
        for position, candidates in enumerate(_candidates(own, true, pixels, kind, limits)):
            outcome.take(position, candidates)
        neutral = _on_single_steps(own, truth, limits) if kind == "cosmic_ray" else np.zeros(len(own), bool)
        wrong = outcome.wrong(len(own)) & ~neutral
        hits = outcome.hits
        rows = sorted(hits)
        frames = own["first_frame"].to_numpy()[[hits[row] for row in rows]]
        kinds[kind] = KindScore(
            true=int(outcome.counts.sum()),
            found=len(hits),
            detected=len(own),
            false=int(wrong.sum()),
            ignored=len(own) - len(hits) - int(wrong.sum()),
            frame_errors=(frames - true["first_frame"].to_numpy()[rows]).astype(np.int64),
        )
        found = np.zeros(len(true), np.bool_)
        found[rows] = True
        missed.append(true[outcome.counts & ~found])
        false.append(own[wrong])
    return Score(kinds, pd.concat(missed), pd.concat(false))


def counted(events: pd.DataFrame, limits: Limits) -> pd.Series:
    """Which true events are bright enough to be scored, as a boolean column."""
    ray = (events["snr"] >= limits.snr) | ((events["peak_sigma"] >= limits.peak_sigma) & (events["snr"] > 0))
    telegraph = (
        (events["peak_sigma"] >= limits.telegraph_sigma)
        & (events["transitions"] >= limits.transitions)
        & (events["dwell_mean"] >= limits.dwell)
    )
    kind = events["type"]
    return ((kind == "cosmic_ray") & ray) | ((kind == "telegraph_noise") & telegraph) | (kind == "snowball")


class _Outcome:
    """Which detection each true event took, by position, and what became of the other detections."""

    def __init__(self, counts: NDArray[np.bool_]) -> None:
        self.counts = counts
        self.hits: dict[int, int] = {}
        self.ignored: set[int] = set()

    def take(self, position: int, candidates: list[int]) -> None:
        """Give a detection the nearest free event that counts; failing that, a fainter one excuses it."""
        free = [row for row in candidates if self.counts[row] and row not in self.hits]
        if free:
            self.hits[free[0]] = position
        elif any(not self.counts[row] for row in candidates):
            self.ignored.add(position)

    def wrong(self, size: int) -> NDArray[np.bool_]:
        """Detections that are neither hits nor ignored."""
        wrong = np.ones(size, np.bool_)
        wrong[[*self.hits.values(), *self.ignored]] = False
        return wrong


def _candidates(
    own: pd.DataFrame, true: pd.DataFrame, pixels: pd.DataFrame, kind: str, limits: Limits
) -> list[list[int]]:
    """Events each detection may be, nearest first, as positions in ``true``."""
    if own.empty or true.empty:
        return [[] for _ in range(len(own))]
    if kind == "snowball":
        centre = np.stack([own["y"], own["x"]], axis=1)[:, None] - np.stack([true["y"], true["x"]], axis=1)
        distance = np.hypot(centre[..., 0], centre[..., 1])
        late = np.abs(own["first_frame"].to_numpy()[:, None] - true["first_frame"].to_numpy())
        reach = np.maximum(true["core_radius"].to_numpy(), limits.distance)
        near = (distance <= reach) & (late <= limits.frames_strong)
        return [[int(row) for row in np.argsort(d) if ok[row]] for d, ok in zip(distance, near, strict=True)]

    position = {number: row for row, number in enumerate(true["event_id"])}
    rows = [position[number] for number in pixels["event_id"]]
    places = _peaks(own)
    reach = 0.5 if kind == "telegraph_noise" else limits.distance
    tree = cKDTree(pixels[["y", "x"]].to_numpy(np.float64))
    strong = true["peak_sigma"].to_numpy() >= limits.strong
    tolerance = np.where(strong, limits.frames_strong, limits.frames_faint)
    first = true["first_frame"].to_numpy()
    out = []
    # a track's centroid may lie between its pixels: both the peak and the centroid count
    centroids = own[["y", "x"]].to_numpy(np.float64)
    for place, centroid, frame in zip(places, centroids, own["first_frame"].to_numpy(), strict=True):
        best: dict[int, float] = {}
        for point in (place, centroid) if kind == "cosmic_ray" else (place,):
            for pixel in tree.query_ball_point(point, reach):
                row = rows[pixel]
                if kind == "cosmic_ray" and abs(frame - first[row]) > tolerance[row]:
                    continue
                away = float(np.hypot(*(tree.data[pixel] - point)))
                best[row] = min(best.get(row, np.inf), away)
        out.append(sorted(best, key=lambda row: (best[row], abs(frame - first[row]))))
    return out


def _peaks(own: pd.DataFrame) -> NDArray[np.float64]:
    names = ["peak_y", "peak_x"] if "peak_y" in own else ["y", "x"]
    return own[names].to_numpy(np.float64)


def _on_single_steps(own: pd.DataFrame, truth: Truth, limits: Limits) -> NDArray[np.bool_]:
    rare = truth.pixels[truth.pixels["transitions"] < limits.transitions]
    if own.empty or rare.empty:
        return np.zeros(len(own), np.bool_)
    distance, _ = cKDTree(rare[["y", "x"]].to_numpy(np.float64)).query(_peaks(own))
    return np.asarray(distance <= 0.5)
