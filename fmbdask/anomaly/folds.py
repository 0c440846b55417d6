"""Folds: an object belongs to the fold that the hash of its id says, in every store and for ever.

A row is scored by the model that never saw its fold. Since the fold comes from the id, that holds for rows of
the training store and for later ones alike, in any order, and nothing needs to be kept but the rule.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

#: Seeds of the hashes for folds and for samples, which say nothing of each other.
FOLD_SEED, SAMPLE_SEED = 1, 0


def keys_of(ids: Iterable[Any], seed: int = SAMPLE_SEED) -> NDArray[np.uint64]:
    """Hash ids: XXH3 of their text, so that 17 and "17" are the same object.

    Parameters
    ----------
    ids : iterable of int, str or bytes
    seed : int

    Returns
    -------
    (n,) uint64

    Examples
    --------
    >>> bool((keys_of([17]) == keys_of(["17"])).all())
    True
    """
    values = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
    texts = (v if isinstance(v, bytes) else str(v).encode() for v in values)
    return np.fromiter(map(xxhash.xxh3_64_intdigest, texts, repeat(seed)), np.uint64, len(values))
