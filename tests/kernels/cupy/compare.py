"""When two implementations of the temporal features agree."""

from __future__ import annotations

from typing import Any

import numpy as np
from fmbdask_kernels.planes import PLANES
from fmbdask_kernels.tables import Tables
from numpy.typing import NDArray

from ..test_temporal import EXACT, FLOOR, NOISE, Block, make_prior, make_tables

Planes = NDArray[np.float32]

#: Planes in DN^2, whose terms cancel.
SQUARES = ("read_variance", "roughness", "intensity_variance")


def assert_same(got: Planes, want: Planes, poisson: float, rho_variance: float, tables: Tables) -> int:
    """Counts and frames exactly, the rest to the rounding of float32; returns how many pixels were compared.

    Where rho lies on the edge of two bins to that rounding, either bin is right, and what depends on it is
    not compared.
    """
    names = list(PLANES)
    read = dict(zip(names, np.asarray(got, np.float64), strict=True))
    true = dict(zip(names, np.asarray(want, np.float64), strict=True))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    good = ~np.isnan(true["rho_bin"])
    other = good & (read["rho_bin"] != true["rho_bin"])
    if other.any():
        rho = true["slope"][other] * poisson / rho_variance
        edge = tables.edges[np.minimum(read["rho_bin"], true["rho_bin"])[other].astype(int)]
        scale = 2e-6 * (1 + true["maximum"] - true["minimum"])[other] * poisson / rho_variance
        assert (abs(rho - edge) <= 1e-5 * edge + scale).all()
    same = good & ~other
    with np.errstate(invalid="ignore"):
        span = 1 + abs(true["maximum"] - true["minimum"])
        # a strong step leaves the difference of two large sums as the noise, on either side
        loss = 5e-5 + 4e-7 * true["read_variance"] / np.minimum(true["noise"] ** 2, NOISE.variance)
    for name in names:
        which = good if name in (*EXACT, "slope", "intensity_variance") else same
        if name in EXACT or name == "step_frame":
            np.testing.assert_array_equal(read[name][which], true[name][which], err_msg=name)
            continue
        absolute: Any = np.full(span.shape, 1e-4)
        if name in ("slope", "rate"):
            absolute = 2e-6 * span
        elif name == "step_r2":  # of few reads nearly all is explained: what is left is a difference of sums
            absolute = np.where(true["reads"] < 6, 1e-2, 1e-3)
        elif name in SQUARES:
            absolute = 2e-6 * span**2
        bound = absolute + loss * abs(true[name])
        far = which & ~(abs(read[name] - true[name]) <= bound)
        assert not far.any(), (name, read[name][far], true[name][far])
    return int(same.sum())


def told(block: Block, y: slice = slice(None), x: slice = slice(None)) -> tuple[Any, ...]:
    """Arguments of the kernels for a part of a block: data, frames, tables, prior, offsets."""
    from fmbdask_kernels.tables import make_offsets

    data = np.ascontiguousarray(block.data[:, y, x])
    ny, nx = data.shape[1:]
    tables = make_tables(block.pattern, FLOOR)
    prior = make_prior(nx, *(getattr(NOISE, name) for name in NOISE.__dataclass_fields__))
    offsets = make_offsets(
        tables, nx, ny, block.column[:, x], block.gradient[:, x], block.height[y], block.row[:, y]
    )
    return data, block.used, tables, prior, offsets
