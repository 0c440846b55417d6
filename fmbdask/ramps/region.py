"""The map: one region of an exposure, searched by itself.

The fused pass looks at every pixel; the few that fired are fitted again, with several steps and with two
levels, while their reads are at hand. What leaves is small: steps, telegraph pixels, and maps of the region.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fmbdask_kernels import temporal
from fmbdask_kernels.gather import gather_ramps
from fmbdask_kernels.tables import Prior, make_prior
from numpy.typing import NDArray

from ..regions import Region
from .candidates import Look, choose, refit
from .devices import first_pass
from .events import STEP
from .fading import early, evidence
from .noise import region_offsets
from .prepare import Prepared
from .rates import FEWEST, rates_of

#: Significance given to a step that ends at saturation: its amplitude is a lower limit.
SATURATING = 99.0
#: A step that saturates must reach this far above the last good read: read noise, and Poisson sigma or rate.
JUMP_NOISE, JUMP_POISSON = 20.0, 6.0


@dataclass(frozen=True)
class RegionResult:
    """What a region found.

    Attributes
    ----------
    region : Region
    steps : array of dtype ``events.STEP``
        Steps of pixels that fired, refitted, and of weak ones that may join a neighbour.
    telegraph : array of dtype ``TELEGRAPH``
    maps : dict of (ny, nx) float32 arrays
        ``rate`` and ``rate_error`` [DN per interval], ``reads``; every feature when asked for.
    tested, beyond : int
        Clean-looking pixels that were tested at the stated false-alarm rate, and those beyond it downwards:
        negative steps are false alarms but for telegraph noise.
    """

    region: Region
    steps: NDArray[Any]
    telegraph: NDArray[Any]
    maps: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    tested: int = 0
    beyond: int = 0


@dataclass(frozen=True)
class Limits:
    """Reads of a region that may be used.

    ``usable`` (T, ny, nx) or None for all, and below ``saturation`` (ny, nx) [DN].
    """

    usable: NDArray[np.bool_] | None
    saturation: NDArray[np.float32]

    @staticmethod
    def of(
        prepared: Prepared,
        region: Region,
        flags: NDArray[np.uint8] | None,
        bad: NDArray[np.bool_] | None,
        saturation: NDArray[np.float32] | None,
    ) -> Limits:
        """Put flags, bad pixels and saturation levels together."""
        level = prepared.detector.saturation if saturation is None else saturation
        usable = None
        if flags is not None and flags.any():
            usable = flags == 0
        if bad is not None and bad.any():
            every = np.ones((prepared.detector.shape[1], *region.shape), np.bool_)
            usable = (every if usable is None else usable) & ~bad
        return Limits(usable, np.broadcast_to(np.asarray(level, np.float32), region.shape))


def region_features(
    data: NDArray[Any], prepared: Prepared, region: Region, limits: Limits
) -> NDArray[np.float32]:
    """Every temporal feature of a region, (planes, ny, nx): :data:`fmbdask_kernels.temporal.PLANES`."""
    p = prepared
    return temporal.temporal_features(
        data, p.used, p.tables, _prior(p, region), region_offsets(p.offsets, region),
        pattern=p.pattern, usable=limits.usable, saturation=limits.saturation,
        appearance_sigma=p.config.appearance_sigma,
    )  # fmt: skip


def _prior(p: Prepared, region: Region) -> Prior:
    """What is known of the noise of the pixels of a region."""
    amplifier = p.detector.amplifier[region.x]
    return make_prior(
        region.shape[1], p.noise.of(amplifier, region), p.noise.dof[amplifier], p.noise.noisy[amplifier],
        p.poisson, p.noise.rho_variance[amplifier],
    )  # fmt: skip


def search_region(
    data: NDArray[Any],
    prepared: Prepared,
    region: Region,
    limits: Limits,
    *,
    features: bool = False,
    device: str = "cpu",
) -> RegionResult:
    """Search one region.

    Parameters
    ----------
    data : (T, ny, nx) array
        All frames of the region [DN].
    prepared : Prepared
        What the exposure's regions share.
    region : Region
    limits : Limits
        Reads that may be used.
    features : bool
        Whether to keep every temporal feature.
    device : {"cpu", "gpu"}
        Where the first pass over every pixel runs; the few that fired are fitted here.

    Returns
    -------
    RegionResult
    """
    p = prepared
    amplifier = p.detector.amplifier[region.x]
    planes, rate, rate_error = first_pass(
        data, p.used, p.pattern, p.tables, _prior(p, region), region_offsets(p.offsets, region),
        p.noise.rates, saturation=limits.saturation, usable=limits.usable,
        appearance_sigma=p.config.appearance_sigma, device=device,
    )  # fmt: skip
    _rates_with_gaps(rate, rate_error, data, planes, p, region, limits)
    # copies: a view would keep all planes of the region in memory until the exposure is reduced
    kept = {
        "rate": rate,
        "rate_error": rate_error,
        "reads": planes[temporal.READS],
        "noise": planes[temporal.NOISE],
    }
    maps = dict(zip(kept, _lasting(list(kept.values())), strict=True))
    active = _active(p, region)
    seen = choose(planes, p, region, amplifier, active)
    again = refit(data, planes, p, region, seen, limits.saturation, limits.usable)
    for name, values in (("rate", again.rate), ("rate_error", again.rate_error)):
        known = np.isfinite(values)
        maps[name][again.rows[known], again.columns[known]] = values[known]
    parts = [
        again.steps,
        _weak_steps(data, planes, seen, p, region, limits),
        _saturating_steps(data, planes, p, region, amplifier, limits),
    ]
    if features:
        maps |= {name: planes[i] for i, name in enumerate(temporal.PLANES) if name not in maps}
    quiet = active & (planes[temporal.READS] == p.used.size) & ~seen.noisy
    quiet[again.rows[again.two_level], again.columns[again.two_level]] = False
    beyond = quiet & (seen.drop > seen.threshold)
    return RegionResult(
        region, np.concatenate(parts), again.telegraph, maps, int(quiet.sum()), int(beyond.sum())
    )


def _lasting(maps: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Copies of maps, (n, ny, nx), in memory that goes back to the system as soon as they are let go.

    They outlive the search of their region among buffers that come and go, and would leave holes in the heap.
    """
    held = mmap.mmap(-1, sum(m.nbytes for m in maps))
    out = np.frombuffer(held, np.float32).reshape(len(maps), *maps[0].shape)
    for own, values in zip(out, maps, strict=True):
        own[...] = values
    return out


def _active(p: Prepared, region: Region) -> NDArray[np.bool_]:
    """Pixels of the region that see light."""
    rows, columns = p.detector.active
    y, x = np.arange(region.y0, region.y1), np.arange(region.x0, region.x1)
    inside: NDArray[np.bool_] = ((y >= rows.start) & (y < rows.stop))[:, None] & (
        (x >= columns.start) & (x < columns.stop)
    )
    return inside


def _rates_with_gaps(
    rate: NDArray[np.float32],
    error: NDArray[np.float32],
    data: NDArray[Any],
    planes: NDArray[np.float32],
    p: Prepared,
    region: Region,
    limits: Limits,
) -> None:
    """Put in the rates of pixels of which not all reads are used, as if none had a step [DN per interval]."""
    few = (planes[temporal.READS] < p.used.size) & (planes[temporal.READS] >= FEWEST)
    rows, columns = np.nonzero(few)
    if rows.size:
        ramps, used = gather_ramps(
            data, p.used, rows, columns, (region.y0, region.x0), p.correction.parts, limits.saturation,
            limits.usable, p.pattern[2] < 1,
        )  # fmt: skip
        none = np.zeros(used.shape, np.bool_)
        rate[rows, columns], error[rows, columns] = rates_of(ramps, used, none, p, region, rows, columns)


def _weak_steps(
    data: NDArray[Any],
    planes: NDArray[np.float32],
    look: Look,
    p: Prepared,
    region: Region,
    limits: Limits,
) -> NDArray[Any]:
    """Steps too weak to be fitted again: neighbours of a hit."""
    rows, columns = np.nonzero((look.z > p.config.weak_sigma) & ~look.deep & ~look.telegraph)
    out = np.zeros(rows.size, STEP)
    out["integration"] = region.integration
    out["frame"] = planes[temporal.STEP_FRAME][rows, columns]
    out["y"], out["x"] = rows + region.y0, columns + region.x0
    out["amplitude"] = planes[temporal.STEP_AMPLITUDE][rows, columns]
    out["significance"] = look.z[rows, columns]
    out["sigma"] = np.sqrt(p.noise.pixels(p.detector.amplifier, region)[rows, columns])
    out["threshold"] = look.threshold[rows, columns]
    first = np.flatnonzero(early(out["frame"], p))
    rows, columns = rows[first], columns[first]
    ramps, used = gather_ramps(
        data, p.used, rows, columns, (region.y0, region.x0), p.correction.parts, limits.saturation,
        limits.usable, p.pattern[2] < 1,
    )  # fmt: skip
    rho = p.tables.rho[planes[temporal.RHO_BIN][rows, columns].astype(np.int64)]
    out["gains"][first] = evidence(ramps, used, out["sigma"][first] ** 2, rho, p)
    return out


def _saturating_steps(
    data: NDArray[Any],
    planes: NDArray[np.float32],
    p: Prepared,
    region: Region,
    amplifier: NDArray[np.int64],
    limits: Limits,
) -> NDArray[Any]:
    """Steps that end at saturation: the last good read is far below, the next one at the ceiling."""
    level, usable = limits.saturation, limits.usable
    last_used = data[p.used[-1]]
    full = _active(p, region) & ((planes[temporal.READS] < p.used.size) | (last_used >= level))
    rows, columns = np.nonzero(full)
    if not rows.size:
        return np.zeros(0, STEP)
    raw = data[:, rows, columns][p.used].astype(np.float32)
    good = np.ones(raw.shape, bool) if usable is None else usable[:, rows, columns][p.used]
    raw[~np.isfinite(raw)] = np.nan
    above = (raw >= level[rows, columns]) & good
    at = above.argmax(axis=0)
    some = above.any(axis=0) & (at > 0)
    # an average in which the pixel fills up belongs to the jump
    averaged = p.pattern[2, np.maximum(at - 1, 0)] < 1
    last = np.maximum(at - 1 - averaged, 0)
    before = raw[last, np.arange(rows.size)]
    room = level[rows, columns] - before
    sigma = np.sqrt(p.noise.pixels(p.detector.amplifier, region)[rows, columns])
    rate = np.maximum((before - raw[0]) / np.maximum(last, 1), 0)
    enough = JUMP_NOISE * sigma + JUMP_POISSON * (rate + np.sqrt(rate * p.poisson))
    keep = some & (room > enough)
    out = np.zeros(int(keep.sum()), STEP)
    out["integration"] = region.integration
    out["frame"] = p.used[at[keep]]
    out["y"], out["x"] = rows[keep] + region.y0, columns[keep] + region.x0
    out["amplitude"], out["significance"] = room[keep], SATURATING
    out["sigma"], out["threshold"] = sigma[keep], p.isolated[0]
    out["saturating"] = True
    return out
