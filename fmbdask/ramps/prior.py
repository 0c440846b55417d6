"""What the history of a detector lets one expect of the next exposure, pixel by pixel.

A prior moves odds at the pixels that it knows, a few in a thousand, and nothing at the others, which keep the
stated false-alarm rate of ramps without an event. Known telegraph pixels that are quiet after all were called
active in fewer than one in 1000 simulated ramps of 20 and 100 frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy import special

from ..errors import InputError
from ..regions import Region
from .calibration import repeat_odds
from .history import History, rates, table

Float = NDArray[np.float64]

#: Share of telegraph pixels among all that stand for the odds which the usual evidence has to overcome, and
#: of clean pixels that an exposure calls so.
TELEGRAPH_SHARE, TELEGRAPH_FALSE = 2e-3, 1e-4
#: Share of the hits of an exposure that are effects of their place, before anything is known of it.
OWN_SHARE = 0.01
#: Probability that a pixel with a decaying current of more than a read noise shows a false hit: measured on
#: 8600 such pixels of simulated exposures of 100 and 300 frames.
PERSISTING = 8e-3
#: A telegraph pixel is known when it is one more probably than not.
KNOWN = 0.5
#: Largest gain of log-odds: a history never makes up for evidence that points the other way.
MOST = 8.0
#: Amplitudes of hits are log-uniform over this many e-foldings; those of flips scatter by this share.
HIT_DECADES, FLIP_SCATTER = np.log(100.0), 0.25
#: Decay times of trapped charge [s], each as likely as the next on a logarithmic scale, which makes the
#: current fall with 1 / time between them, as measured in HgCdTe arrays (Smith et al. 2008, SPIE 7021
#: 70210J); and the largest share of a level that is trapped.
DECAY, TRAPPED = (100.0, 5000.0), 0.01
#: Bits of the map of known pixels.
BITS = {"telegraph": 1, "hot": 2, "dead": 4, "noisy": 8, "hit": 16, "bright": 32}


@dataclass(frozen=True)
class Prior:
    """Expectations of one exposure, at the pixels that are known, sorted by place.

    Attributes
    ----------
    token : str
        Identity of the history.
    columns : int
        Of the frame; ``place`` is ``y * columns + x``.
    place : (K,) int array
        Known telegraph pixels.
    gain : (K,) array
        By how much their log-odds of being telegraph noise exceed those of any pixel.
    amplitude : (K,) array
        Typical flip [DN].
    active : (K,) array
        Probability that they flip in the next exposure.
    hits : float
        Hits expected per pixel in the exposure.
    noisy, noise : (L,) arrays
        Places of noisy pixels, and their noise [DN].
    unstable, odds : (M,) arrays
        Places with several hits, and odds that another one is of their own making.
    bright, trapped : (B,) arrays
        Places that were bright in the exposure before, and the largest charge that they have trapped [DN].
    since, seconds : float
        Time from the end of that exposure to the start of this one, and length of this one [s].
    known : (y, x) uint8 array
        :data:`BITS`.
    notes : tuple of str
    """

    token: str
    columns: int
    place: NDArray[np.int64]
    gain: Float
    amplitude: Float
    active: Float
    hits: float
    noisy: NDArray[np.int64]
    noise: Float
    unstable: NDArray[np.int64]
    odds: Float
    bright: NDArray[np.int64]
    trapped: Float
    since: float
    seconds: float
    known: NDArray[np.uint8]
    notes: tuple[str, ...]

    def inside(self, region: Region) -> NDArray[np.bool_]:
        """Known telegraph pixels of a region, (ny, nx)."""
        out = np.zeros(region.shape, np.bool_)
        y, x = np.divmod(self.place, self.columns)
        mine = (y >= region.y0) & (y < region.y1) & (x >= region.x0) & (x < region.x1)
        out[y[mine] - region.y0, x[mine] - region.x0] = True
        return out

    def telegraph(self, y: NDArray[np.intp], x: NDArray[np.intp]) -> Float:
        """Gain of the log-odds of telegraph noise of pixels; 0 where nothing is known."""
        return _at(self.place, self.gain, y * self.columns + x)

    def flips(
        self,
        y: NDArray[np.intp],
        x: NDArray[np.intp],
        amplitude: NDArray[np.float32],
        sigma: NDArray[np.float32],
    ) -> NDArray[np.bool_]:
        """Whether single steps are rather flips of a known telegraph pixel than hits.

        Parameters
        ----------
        y, x : (K,) arrays
            Pixels of the frame.
        amplitude : (K,) array
            [DN].
        sigma : (K,) array
            Noise of one read [DN].

        Returns
        -------
        (K,) bool array
        """
        place = y * self.columns + x
        typical = _at(self.place, self.amplitude, place)
        active = _at(self.place, self.active, place)
        width = np.sqrt((FLIP_SCATTER * typical) ** 2 + 2 * sigma.astype(np.float64) ** 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            flip = np.log(active / width) - ((amplitude - typical) / width) ** 2 / 2 - np.log(2 * np.pi) / 2
            hit = np.log(self.hits / (HIT_DECADES * amplitude))
        return np.asarray((typical > 0) & (amplitude > 0) & (flip > hit))

    def own_making(
        self, y: NDArray[np.int64], x: NDArray[np.int64], amplitude: Float, elapsed: Float
    ) -> Float:
        """Odds that steps of pixels are of their own making rather than hits.

        ``amplitude`` [DN] and ``elapsed`` [s], the time of each step since the start of the exposure.
        """
        place = y * self.columns + x
        odds = _at(self.unstable, self.odds, place)
        # a decaying current makes no step larger than what it still releases
        end = _left(np.array(self.since + self.seconds))
        released = _at(self.bright, self.trapped, place) * (_left(self.since + elapsed) - end)
        return odds + np.where(released > amplitude, PERSISTING / max(self.hits, 1e-12), 0.0)


def expect(
    history: History, shape: tuple[int, int], *, seconds: float, started: str = "", name: str = ""
) -> Prior:
    """Expect of an exposure what the history of its detector tells.

    Parameters
    ----------
    history : History
    shape : (rows, columns)
        Of the exposure.
    seconds : float
        How long it is, all integrations together [s].
    started : str
        ISO 8601 start, empty where it is not known.
    name : str
        Of the exposure, for messages.

    Raises
    ------
    InputError
        If the history is of another shape.
    """
    if tuple(history.shape) != tuple(shape):
        raise InputError(
            f"{name or 'the exposure'} has {shape[0]} x {shape[1]} pixels, the history of {history.detector} "
            f"{history.shape[0]} x {history.shape[1]}: give the history of this detector, or name another "
            "with --detector"
        )
    columns = shape[1]
    pixels = table(history)
    place = pixels["y"].to_numpy(np.int64) * columns + pixels["x"].to_numpy(np.int64)
    kind = pixels["kind"].to_numpy()
    flagged, seen = (pixels[n].to_numpy(np.float64) for n in ("flagged", "seen"))
    is_telegraph = TELEGRAPH_SHARE * np.exp(repeat_odds(flagged, seen, TELEGRAPH_FALSE))
    is_telegraph /= 1 + is_telegraph
    active = is_telegraph * (flagged + 1) / (seen + 2)
    mine = (kind == "telegraph") & (flagged >= 2) & (is_telegraph > KNOWN)
    gain = special.logit(np.clip(active, 1e-9, 1 - 1e-9)) - special.logit(TELEGRAPH_SHARE)
    per_pixel = max(rates(history)["hits"]["rate"], 0.5 / max(history.counts["pixel_milliseconds"], 1) * 1e3)
    hits = per_pixel * seconds
    # pixels of hits, of which a hit has several, in one exposure
    area = float(history.shape[0] * history.shape[1] * len(history.exposures))
    chance = max(flagged[kind == "hit"].sum(), 1.0) / area
    again = (kind == "hit") & (flagged >= 2)
    unstable, odds = place[again], np.exp(repeat_odds(flagged[again], seen[again], chance))
    noisy = (kind == "noisy") & (2 * flagged > seen) & (flagged >= 2)
    known = np.zeros(shape, np.uint8)
    for one in ("hot", "dead"):
        often = (kind == one) & (2 * flagged > seen) & (flagged >= 2)
        known.ravel()[place[often]] |= np.uint8(BITS[one])
    known.ravel()[place[mine]] |= np.uint8(BITS["telegraph"])
    known.ravel()[place[noisy]] |= np.uint8(BITS["noisy"])
    own = odds * OWN_SHARE
    known.ravel()[unstable[own > 1]] |= np.uint8(BITS["hit"])
    bright, trapped, since, note = _bright(history, columns, started)
    known.ravel()[bright] |= np.uint8(BITS["bright"])
    counts = {name: int((known & bit > 0).sum()) for name, bit in BITS.items()}
    said = ", ".join(f"{n} {name}" for name, n in counts.items() if n) or "no pixels"
    notes = [f"the history of {history.detector} ({len(history.exposures)} exposures) knows {said}", *note]
    order, by_noise = np.argsort(place[mine]), np.argsort(place[noisy])
    return Prior(
        token="-".join(sorted(history.fingerprints)),
        columns=columns,
        place=place[mine][order],
        gain=np.clip(gain[mine], 0, MOST)[order],
        amplitude=pixels["amplitude"].to_numpy(np.float64)[mine][order],
        active=active[mine][order],
        hits=hits,
        noisy=place[noisy][by_noise],
        noise=pixels["noise"].to_numpy(np.float64)[noisy][by_noise],
        unstable=np.sort(unstable),
        odds=own[np.argsort(unstable)],
        bright=bright,
        trapped=trapped,
        since=since,
        seconds=seconds,
        known=known,
        notes=tuple(notes),
    )


def _bright(
    history: History, columns: int, started: str
) -> tuple[NDArray[np.int64], Float, float, list[str]]:
    """Pixels that the last exposure left bright, what they have trapped [DN], and for how long [s]."""
    nothing = np.zeros(0, np.int64), np.zeros(0), 0.0
    if not len(history.bright):
        return *nothing, []
    before, _, _, milliseconds = history.exposures[-1]
    since, note = 0.0, ["no observation times: the last exposure of the history counts as just before"]
    if started and before:
        ended = datetime.fromisoformat(before).timestamp() + milliseconds / 1000
        since, note = datetime.fromisoformat(started).timestamp() - ended, []
        if since < 0:
            return *nothing, []
    y, x = (history.bright[n].to_numpy(np.int64) for n in ("y", "x"))
    place = y * columns + x
    order = np.argsort(place)
    return place[order], TRAPPED * history.bright["level"].to_numpy(np.float64)[order], since, note


def _left(since: Float) -> Float:
    """Share of the trapped charge that is left after a time [s]: mean over the decay times."""
    short, long = DECAY
    time = np.maximum(since, 1e-3 * short)
    left: Float = (special.exp1(time / long) - special.exp1(time / short)) / np.log(long / short)
    return left


def _at(places: NDArray[np.int64], values: Float, wanted: NDArray[np.integer]) -> Float:
    """Values at places, 0 where there are none."""
    if not places.size:
        return np.zeros(wanted.shape)
    at = np.minimum(np.searchsorted(places, wanted), places.size - 1)
    return np.where(places[at] == wanted, values[at], 0.0)
