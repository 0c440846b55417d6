"""Where the first pass over every pixel runs: on this processor, or on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from fmbdask_kernels import rates, temporal
from fmbdask_kernels.rate_tables import RateTables
from fmbdask_kernels.tables import Offsets, Prior, Tables
from numpy.typing import NDArray

from ..errors import ConfigError

#: What may be asked for; ``auto`` takes a GPU where there is one.
DEVICES = ("cpu", "gpu", "auto")


def find_device(name: str) -> str:
    """Find the device that was asked for: "cpu" or "gpu".

    Parameters
    ----------
    name : {"cpu", "gpu", "auto"}
        ``auto`` takes a GPU where there is one.

    Raises
    ------
    ConfigError
        If there is no such device, or no GPU here.
    """
    if name not in DEVICES:
        raise ConfigError(f"there is no device {name}: give one of {', '.join(DEVICES)}")
    if name == "cpu":
        return name
    from fmbdask_kernels.cupy.card import missing

    why = missing()
    if why is None:
        return "gpu"
    if name == "gpu":
        raise ConfigError(
            f"device gpu was asked for and {why} here: install fmbdask[cuda12] or fmbdask[cuda13] where "
            "there is a GPU, or give auto or cpu"
        )
    return "cpu"


def first_pass(
    data: NDArray[Any],
    used: NDArray[np.int64],
    pattern: NDArray[np.float64],
    tables: Tables,
    prior: Prior,
    offsets: Offsets,
    parts: RateTables,
    *,
    saturation: NDArray[np.float32],
    usable: NDArray[np.bool_] | None,
    appearance_sigma: float,
    device: str = "cpu",
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Temporal features of every pixel of a block, its rate and the error of that.

    Parameters
    ----------
    data, used, pattern, tables, prior, offsets, saturation, usable, appearance_sigma
        As for :func:`fmbdask_kernels.temporal.temporal_features`.
    parts : RateTables
        As for :func:`fmbdask_kernels.rates.rates`.
    device : {"cpu", "gpu"}

    Returns
    -------
    (planes, ny, nx), (ny, nx) and (ny, nx) float32 arrays
        On a GPU whole numbers are the same, others to the rounding of float32.
    """
    if device == "gpu":
        from fmbdask_kernels.cupy import streaming

        planes, best = streaming.first_pass(
            streaming.Block(
                data, used, pattern, tables, prior, offsets, parts, saturation, usable, appearance_sigma
            )
        )
        return planes, best[0], best[1]
    planes = temporal.temporal_features(
        data, used, tables, prior, offsets, pattern=pattern, usable=usable, saturation=saturation,
        appearance_sigma=appearance_sigma,
    )  # fmt: skip
    rate, error = rates.rates(data, used, planes, prior, tables, offsets, parts)
    return planes, rate, error
