"""Persistence: what an earlier exposure left comes out as a current that decays, and looks like early hits.

The fits of single pixels know such currents, but where a pixel releases little more than the noise of a read
a step explains it as well by chance. The pixels of a spot decay alike, and those of a hit step in the same
frame: sums of chi^2 over the pixels of a group settle which it was.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from fmbdask_kernels.decays import step_or_decay
from fmbdask_kernels.events import group_steps
from numpy.typing import NDArray

from .prepare import Prepared

#: Frames in use, counted from 0, up to which steps are held against decaying currents, and the decay times
#: [mean interval]. Steps later than these are seldom made by persistence.
FRAMES, LASTING = 16, np.geomspace(1.5, 60.0, 8)
#: Columns of the evidence of a step: gains of chi^2 by steps, then by decays.
EVIDENCE = FRAMES + LASTING.size
#: Chi^2 by which a step must beat every decay to be an event, from which on nothing is doubted, and doubt for
#: each unit of chi^2 in between [sigma]: hits outnumber the pixels of spots, but few are so near.
BEATS, BEYOND, DOUBT = 4.0, 8.0, 0.7


def evidence(
    ramps: NDArray[np.float32],
    used: NDArray[np.bool_],
    variance: NDArray[Any],
    rho: NDArray[Any],
    p: Prepared,
) -> NDArray[np.float32]:
    """Gains of chi^2 by early steps and by decays, (K, EVIDENCE), see :func:`step_or_decay`."""
    return step_or_decay(ramps, used, variance, rho, p.pattern, FRAMES, LASTING)


def early(frame: NDArray[Any], p: Prepared) -> NDArray[np.bool_]:
    """Steps at frames that are held against decaying currents."""
    return np.asarray(frame <= p.used[min(FRAMES, p.used.size - 1)])


def advantage(steps: NDArray[Any]) -> NDArray[np.float64]:
    """Chi^2 by which a step common to touching pixels beats every common decay, (n,); inf where untested.

    Steps of dtype ``events.STEP`` whose ``gains`` are not all 0 are tested, each with those that touch it,
    whatever their frames: what a decay looks like on its pixels scatters over the first reads.
    """
    out = np.full(steps.size, np.inf)
    tested = np.flatnonzero(steps["gains"].any(axis=1))
    if tested.size:
        own = steps[tested]
        label = group_steps(own["integration"], own["y"], own["x"], np.ones(own.size, np.bool_), 0)
        total = np.zeros((int(label.max()) + 1, EVIDENCE))
        np.add.at(total, label, own["gains"].astype(np.float64))
        out[tested] = (total[:, :FRAMES].max(axis=1) - total[:, FRAMES:].max(axis=1))[label]
    return out
