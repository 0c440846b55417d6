"""What the first objects of a list of p-values are like: their families, and the nearest ordinary objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...anomaly.contrast import Contrast
from ...anomaly.families import sizes
from ...anomaly.folds import FOLD_SEED, SAMPLE_SEED, keys_of
from ...anomaly.listing import families_of
from ...anomaly.objects import usable
from ...anomaly.rows import Rows
from ...store.embeddings.opening import Store
from .joining import Joined
from .lists import Listing
from .tables import pieces

Int = NDArray[np.int64]
#: Objects are ordinary whose combined p-value is larger; so many of the nearest are shown.
ORDINARY, SHOWN = 0.1, 3


def explained(
    listing: Listing,
    joined: Joined,
    stores: Sequence[Store],
    pair: tuple[str, str],
    places: Int,
    reason: NDArray[Any],
) -> dict[str, Any]:
    """Columns that say more of some objects.

    Parameters
    ----------
    listing : Listing
    joined : Joined
    stores : sequence of Store
    pair : (str, str)
        Modalities that are compared.
    places : (n,) int64
        Of the objects, the most anomalous first.
    reason : (n,) str
        The detector with the smallest p-value of each.

    Returns
    -------
    dict
        ``family``: rank of the first object of the list that deviates in the same way; ``family_size``: how
        many of the list do; ``nearest_<modality>``: ids of the nearest ordinary objects in either modality.
    """
    rows = read_rows(listing, stores, pair, places)
    found: dict[str, Any] = {}
    own = {name: listing.detectors[name] for name in listing.models()[joined.model]}
    family = families_of(own, rows, reason.tolist())
    found["family"] = family + 1
    found["family_size"] = sizes(family)
    for modality in pair:
        found[f"nearest_{modality}"] = _nearest(listing, joined, rows, modality)
    return found


def read_rows(listing: Listing, stores: Sequence[Store], modalities: Sequence[str], places: Int) -> Rows:
    """Read the vectors of objects, wherever they are."""
    begins = listing.scored.begins
    owner = np.searchsorted(begins, places, "right") - 1
    vectors = {m: np.empty((len(places), listing.kept[m].width), np.float32) for m in modalities}
    for number, store in enumerate(stores):
        mine = np.flatnonzero(owner == number)
        for m in modalities if len(mine) else ():
            vectors[m][mine] = store.vectors(m).take(places[mine] - begins[number])
    valid = {m: usable(v, np.any(v != 0, axis=1)) for m, v in vectors.items()}
    ids = listing.scored.ids[places]
    return Rows(0, vectors, valid, keys_of(ids, SAMPLE_SEED), keys_of(ids, FOLD_SEED))


def _nearest(listing: Listing, joined: Joined, rows: Rows, modality: str) -> NDArray[Any]:
    """Ids of the nearest ordinary objects of each row, the nearest first."""
    out = np.full(len(rows), "", object)
    local = next(
        (
            detector.local
            for name in listing.models()[joined.model]
            if isinstance(detector := listing.detectors[name], Contrast)
            and detector.modalities == (modality,)
        ),
        None,
    )
    valid = np.flatnonzero(rows.valid[modality])
    if local is None or not len(valid):
        return out.astype(str)
    places = local.surroundings[0].nearest(rows.take(valid))
    keys = np.where(places < 0, np.uint64(0), local.keys[places])
    named = _ordinary_ids(listing, joined, np.unique(keys[places >= 0]))
    for row, near in zip(valid, keys, strict=True):
        ids = [named[key] for key in near.tolist() if key in named]
        out[row] = " ".join(ids[:SHOWN])
    return out.astype(str)


def _ordinary_ids(listing: Listing, joined: Joined, keys: NDArray[np.uint64]) -> dict[int, str]:
    """Ids of the ordinary ones of some objects, by the hash of the id."""
    assert joined.p is not None
    found: dict[int, str] = {}
    for part in pieces(np.arange(len(listing.scored))):
        ids = listing.scored.ids[part]
        own = keys_of(ids, SAMPLE_SEED)
        at = np.minimum(np.searchsorted(keys, own), max(len(keys) - 1, 0))
        chosen = (keys[at] == own) & (joined.p[part] > ORDINARY) if len(keys) else np.zeros(len(own), bool)
        for place in np.flatnonzero(chosen):
            text = ids[place]
            found[int(own[place])] = text.decode() if isinstance(text, bytes) else str(text)
    return found
