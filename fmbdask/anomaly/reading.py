"""One pass over what detectors learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from .objects import Objects
from .rows import Rows
from .summary import Keep, Summary, merge_summaries, sample_limit, sample_share, span_of, summarise


def summary_of(
    objects: Objects,
    folds: int,
    *,
    keep: Keep | None = None,
    moments: bool = True,
    threads: int = 1,
    progress: Callable[[int, int, str], None] | None = None,
) -> Summary:
    """Summarise all objects, span by span.

    Parameters
    ----------
    objects : Objects
    folds : int
    keep, moments, threads
        See :func:`~fmbdask.anomaly.summary.summarise`.
    progress : callable, optional
        Called with (done, total, text).
    """
    count, span = len(objects), span_of(len(objects))
    share = sample_share(count, objects.widths)

    def read() -> Iterator[Rows]:
        for rows in objects.pieces():
            if progress is not None:
                progress(rows.start, count, "reading")
            yield rows
        if progress is not None:
            progress(count, count, "reading")

    spans = groupby(read(), lambda rows: rows.start // span)
    parts = (
        summarise(own, folds, share=share, keep=keep, moments=moments, threads=threads) for _, own in spans
    )
    return merge_summaries(parts, sample_limit(count, objects.widths))
