"""Best rates on a GPU. Some 60 instructions and 36 bytes a pixel, whatever the number of frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..rate_tables import RateTables
from ..tables import Offsets, Prior, Tables
from .card import READS, Card, current
from .packed import pack_rates
from .temporal import WIDTH, Told, in_use, known_type, tell

#: Rows of threads in a block.
ROWS = 4


def best_rates(card: Card, data: Any, planes: Any, told: Told, parts: RateTables) -> Any:
    """Rate and error (2, ny, nx) of a block whose frames are those in use, all on the card."""
    n, ny, nx = data.shape
    out = card.xp.empty((2, ny, nx), np.float32)
    packed = card.keep(parts.read, lambda: pack_rates(parts))
    card.launch(
        "rates", (f"-DDATA={READS[data.dtype.str[1:]]}",), (-(-nx // WIDTH), -(-ny // ROWS)),
        (WIDTH, ROWS), 0,
        (data, planes, told.tables, told.prior, told.offsets, packed, out, np.int32(n), np.int32(told.bins),
         np.int32(ny), np.int32(nx), *told.scalars, np.float32(parts.excess)),
    )  # fmt: skip
    return out


def rates(
    data: Any,
    used: NDArray[np.int64],
    planes: Any,
    prior: Prior,
    tables: Tables,
    offsets: Offsets,
    parts: RateTables,
    *,
    card: Card | None = None,
) -> tuple[Any, Any]:
    """Twin of :func:`fmbdask_kernels.rates.rates` for arrays on a GPU.

    Parameters are those of the kernel for CPUs; ``card`` is the GPU of this thread unless another is given.

    Returns
    -------
    (ny, nx) array, (ny, nx) array
        Rate and its error [DN per mean interval], on the GPU.
    """
    card = card or current()
    told = tell(card, used, tables, prior, offsets, data.shape[2])
    out = best_rates(card, in_use(card, known_type(data), used), planes, told, parts)
    return out[0], out[1]
