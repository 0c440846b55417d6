"""Scores of images, spectra and their mismatch, ranked among the objects that have them all, and made one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...anomaly.discovery import largest_list
from ...anomaly.fusion import combine, fuse, uplift
from ...anomaly.search import DECIDING
from .detecting import SearchConfig
from .lists import COSINE, FLOW, Listing
from .ranking import ROWS, mapped, ordered, ranks, shares

Float = NDArray[np.float64]
Int = NDArray[np.int64]
#: Fusions of ranks as the room of detectors calls them.
RANKED: Mapping[str, Any] = {"geo": "geo", "min": "min", "avg": "average"}
#: What is ranked: mismatch, image, spectrum.
WHICH = ("mis", "img", "spec")


@dataclass(frozen=True)
class Joined:
    """Scores of the objects of one model, ranked among those that have all of them.

    Attributes
    ----------
    model : str
    names : mapping
        Of :data:`WHICH` those that there are -> detector.
    ranks : mapping
        The same -> (n,) ranks, 1 the most anomalous, 0 for an object that lacks a score.
    shares : mapping
        The same -> (n,) (N - rank + 1) / N, NaN for an object that lacks a score.
    combined : tuple of str
        Detectors whose p-values are combined.
    p : (n,) float64, optional
        Combined p-values.
    final : (n,) float64
        What objects are ranked by, higher is more anomalous; NaN where that is not known.
    """

    model: str
    names: Mapping[str, str]
    ranks: Mapping[str, Int]
    shares: Mapping[str, Float]
    combined: tuple[str, ...]
    p: Float | None
    final: Float

    def listed(self, rate: float, order: Int) -> int:
        """How many of the objects, by rising p-value, are listed at a false discovery rate."""
        assert self.p is not None
        low, high = 0, len(order)
        while low < high:  # p-values above the rate are never listed: they are not looked at
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.p[order[middle]] <= rate else (low, middle)
        return largest_list(np.asarray(self.p[order[:low]]), rate, objects=len(order))


def join(search: SearchConfig, listing: Listing, model: str, pair: tuple[str, str]) -> Joined:
    """Rank the objects of a model among those that have all three scores, and make one score of them."""
    detectors, scored, scratch = listing.detectors, listing.scored, listing.scratch
    flows = {detectors[name].modalities[0]: name for name in listing.of_kind(model, FLOW)}
    cosines = [name for name in listing.of_kind(model, COSINE) if detectors[name].modalities == pair]
    names = {"mis": cosines[0]} if cosines else {}
    names |= {which: flows[m] for which, m in zip(WHICH[1:], pair, strict=True) if m in flows}
    n = len(scored)
    scores = {which: scored.columns[name] for which, name in names.items()}

    def complete(part: slice, own: Float) -> Float:
        known = np.logical_and.reduce([~np.isnan(values[part]) for values in scores.values()])
        return np.where(known, own[part], np.nan)

    rank, share = {}, {}
    for which, values in scores.items():
        own = filled(scratch, n, partial(complete, own=values))
        order = ordered(own, scratch)
        rank[which], share[which] = ranks(order, n, scratch), shares(own, order, scratch)
    combined: tuple[str, ...] = ()
    p = None
    if search.fusion == "pvalue":
        combined = deciding(listing, model)
        views: dict[tuple[str, ...], list[Float]] = {}
        for name in combined:
            views.setdefault(detectors[name].modalities, []).append(scored.p(name))
        p = filled(
            scratch, n, lambda part: combine([combine([c[part] for c in own]) for own in views.values()])
        )
        final = filled(scratch, n, lambda part: -p[part])
    else:
        final = filled(scratch, n, lambda part: fused(share, search.fusion, part))
    return Joined(model, names, rank, share, combined, p, final)


def deciding(listing: Listing, model: str) -> tuple[str, ...]:
    """Detectors of a model whose p-values are combined: as in a search, but for the flows."""
    known = [name for name in listing.models()[model] if listing.detectors[name].kind != FLOW]
    return tuple(n for n in known if n.removeprefix(f"{model}.").startswith(DECIDING)) or tuple(known)


def fused(share: Mapping[str, Float], fusion: str, part: Any) -> Float:
    """Shares of ranks of some objects made one; NaN where one is missing."""
    if len(share) < len(WHICH):
        return np.full(len(np.arange(part.stop)[part]) if isinstance(part, slice) else len(part), np.nan)
    mis, img, spec = (share[which][part] for which in WHICH)
    return uplift(mis, img, spec) if fusion == "uplift" else fuse(mis, img, spec, RANKED[fusion])


def filled(scratch: Path, count: int, make: Callable[[slice], Float]) -> Float:
    """A column that is made piece by piece; mapped where it is long."""
    found = np.empty(count) if count <= ROWS else mapped(scratch, count, np.float64)
    for start in range(0, count, ROWS):
        part = slice(start, min(start + ROWS, count))
        found[part] = make(part)
    return found
