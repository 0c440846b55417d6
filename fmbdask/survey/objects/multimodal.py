"""The lists of fused scores: all objects, the first ones of each model, and those that pass a filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...anomaly.fusion import reason
from ...store.embeddings.opening import Store
from .detecting import SearchConfig
from .explaining import explained
from .joining import WHICH, Joined, fused, join
from .lists import UNITS, Listing, similarity, write_in_order
from .ranking import ordered
from .tables import TableWriter
from .taking import pairs

Int = NDArray[np.int64]
#: Least share of ranks in filtered lists of fused ranks, where nothing else is said.
LEAST_SHARE = 0.9


def write_multimodal(
    search: SearchConfig, listing: Listing, stores: Sequence[Store]
) -> tuple[list[Path], list[str]]:
    """``multimodal/all_scores.csv`` and, for each model, its ranked and filtered lists.

    Returns
    -------
    list of Path, list of str
        What was written, and what the user should know.
    """
    folder = listing.target / "multimodal"
    paths, notes = [], []
    with TableWriter(folder / "all_scores.csv", overwrite=listing.overwrite, units=UNITS) as everything:
        for pair in pairs(listing.kept):
            joined = join(search, listing, listing.kept[pair[0]].model, pair)
            order = ordered(joined.final, listing.scratch)
            columns = columns_of(search, listing, joined)
            write_in_order(everything, order, columns)
            if len(order) < len(listing.scored):
                notes.append(
                    f"{len(listing.scored) - len(order)} of {len(listing.scored)} objects lack a score of "
                    f"{joined.model}: left out of its ranks"
                )
            top = np.asarray(order[: search.top_k])
            kept = np.ones(len(top), bool)
            if joined.p is not None:
                count = joined.listed(search.fdr, order)
                kept[count:] = False
                notes.append(
                    f"{joined.model}: {count} objects are listed at a false discovery rate of {search.fdr:g}"
                    + (f", the lists hold the first {search.top_k} (--top-k)" if count > search.top_k else "")
                )
            kept &= passing(search, joined, top)
            own = columns(top, 1)
            if joined.p is not None:
                own |= explained(listing, joined, stores, pair, top, own["reason"])
            name = f"top{search.top_k}_{joined.model}_{search.fusion}"
            paths.append(_write(listing, folder / "ranked" / f"{name}.csv", own, np.ones(len(top), bool)))
            paths.append(_write(listing, folder / "filtered" / f"{name}_filtered.csv", own, kept))
    return [everything.path, *paths], notes


def _write(listing: Listing, path: Path, columns: dict[str, Any], which: NDArray[np.bool_]) -> Path:
    with TableWriter(path, overwrite=listing.overwrite, units=UNITS) as writer:
        writer.write({name: values[which] for name, values in columns.items()})
    return path


def columns_of(
    search: SearchConfig, listing: Listing, joined: Joined
) -> Callable[[Int, int], dict[str, Any]]:
    """What makes the columns of some objects."""
    scored = listing.scored

    def score(which: str, places: Int) -> NDArray[np.float64]:
        name = joined.names.get(which)
        return np.full(len(places), np.nan) if name is None else scored.columns[name][places]

    def sigma(which: str, places: Int) -> NDArray[np.float64]:
        name = joined.names.get(which)
        values = score(which, places)
        return values if name is None else listing.sigma(name, values)

    def rank(which: str, places: Int) -> np.ma.MaskedArray[Any, Any]:
        found = joined.ranks[which][places] if which in joined.ranks else np.zeros(len(places), np.int64)
        return np.ma.masked_equal(found, 0)

    def share(which: str, places: Int) -> NDArray[np.float64]:
        return joined.shares[which][places] if which in joined.shares else np.full(len(places), np.nan)

    def columns(places: Int, first: int) -> dict[str, Any]:
        found = {
            **listing.objects(places),
            "cosine_similarity": similarity(score("mis", places)),
            "rank_cosine": rank("mis", places),
            "model": np.full(len(places), joined.model),
            "nf_img_sigma": sigma("img", places),
            "nf_spec_sigma": sigma("spec", places),
            "rank_img": rank("img", places),
            "rank_spec": rank("spec", places),
            **{f"p_{which}": share(which, places) for which in WHICH},
            "score_mm_geo": fused(joined.shares, "geo", places),
            "score_mm_min": fused(joined.shares, "min", places),
            "uplift_mm": fused(joined.shares, "uplift", places),
            "score_mm_avg": fused(joined.shares, "avg", places),
            "rank": np.arange(first, first + len(places)),
        }
        if joined.p is not None:
            smallest = reason({name: scored.p(name)[places] for name in joined.combined})
            found["p_value"] = joined.p[places]
            found["reason"] = np.array([*joined.combined, ""])[smallest]
        return found | listing.whence(places)

    return columns


def passing(search: SearchConfig, joined: Joined, places: Int) -> NDArray[np.bool_]:
    """Which of some objects have shares of ranks of at least the thresholds."""
    found = np.ones(len(places), bool)
    for which, least in (("mis", search.t_mis), ("img", search.t_img), ("spec", search.t_spec)):
        if least is None and search.fusion != "pvalue":
            least = LEAST_SHARE
        if least is not None:
            known = which in joined.shares
            found &= joined.shares[which][places] >= least if known else np.zeros(len(places), bool)
    return found
