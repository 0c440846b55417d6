"""What detectors learn from: moments of all objects by fold, and a sample of them, in one pass over a store.

Objects are summed in blocks counted from object 0, blocks in spans, spans in their order: the same bits for
any chunking and any number of workers. The sample holds the objects with the smallest hashes of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..regions import BLOCK
from .moments import Moments, merge
from .rows import Rows
from .threads import one_thread

#: Most objects of the sample, and most bytes of their vectors.
SAMPLE_ROWS, SAMPLE_BYTES = 100_000, 512 * 2**20
#: Spans of a store: at least so many objects each, and at most so many spans.
SPAN_OBJECTS, MOST_SPANS = 16 * BLOCK, 1024


@dataclass(frozen=True)
class Summary:
    """What is known of a store.

    Attributes
    ----------
    folds : int
    objects : int
    moments : mapping
        Modality -> moments of the valid vectors of each fold.
    sample : Rows
    unusable : mapping
        Modality -> objects without a valid vector.
    """

    folds: int
    objects: int
    moments: Mapping[str, tuple[Moments, ...]]
    sample: Rows
    unusable: Mapping[str, int]

    def without(self, modality: str, fold: int) -> Moments:
        """Moments of all folds but one: what a model of that fold may know."""
        return merge(m for k, m in enumerate(self.moments[modality]) if k != fold or self.folds == 1)


def span_of(objects: int) -> int:
    """Objects of a span: a whole number of blocks that depends on the size of the store alone.

    Examples
    --------
    >>> span_of(1_000_000)
    65536
    """
    span = SPAN_OBJECTS
    while span * MOST_SPANS < objects:
        span *= 2
    return span


def sample_limit(objects: int, widths: Mapping[str, int]) -> int:
    """Objects that the sample of a store holds at most."""
    fit = SAMPLE_BYTES // (4 * max(1, sum(widths.values())))
    return min(objects, SAMPLE_ROWS, max(fit, BLOCK))


def summarise(
    rows: Rows,
    folds: int,
    *,
    share: float = 1.0,
    keep: Callable[[Rows], NDArray[np.bool_]] | None = None,
) -> Summary:
    """Summarise one span of a store.

    Parameters
    ----------
    rows : Rows
        Beginning with a block.
    folds : int
    share : float
        Of the objects in the sample.
    keep : callable, optional
        Which objects count in the moments; all by default.

    Returns
    -------
    Summary
    """
    limit = np.uint64(min(share, 1.0) * (2**64 - 1025))
    moments: dict[str, list[Moments]] = {}
    chosen: list[Rows] = []
    unusable = {m: int(len(rows) - v.sum()) for m, v in rows.valid.items()}
    with one_thread():
        for block in rows.blocks():
            fold = block.folds(folds)
            counts = np.ones(len(block), bool) if keep is None else keep(block)
            for modality, vectors in block.vectors.items():
                use = block.valid[modality] & counts
                own = [Moments.of(vectors[use & (fold == k)]) for k in range(folds)]
                before = moments.get(modality)
                moments[modality] = (
                    own if before is None else [a.merged(b) for a, b in zip(before, own, strict=True)]
                )
            some = np.logical_or.reduce(list(block.valid.values()))
            chosen.append(block.take(some & (block.keys <= limit)))
    return Summary(folds, len(rows), {m: tuple(v) for m, v in moments.items()}, _together(chosen), unusable)


def merge_summaries(summaries: Iterable[Summary], limit: int) -> Summary:
    """Put the summaries of spans together, in their order.

    Parameters
    ----------
    summaries : iterable of Summary
    limit : int
        Most objects of the sample, see :func:`sample_limit`.

    Raises
    ------
    InputError
        If there is none.
    """
    whole: Summary | None = None
    samples: list[Rows] = []
    for one in summaries:
        samples.append(one.sample)
        if whole is None:
            whole = one
            continue
        whole = Summary(
            whole.folds,
            whole.objects + one.objects,
            {
                m: tuple(a.merged(b) for a, b in zip(v, one.moments[m], strict=True))
                for m, v in whole.moments.items()
            },
            whole.sample,
            {m: n + one.unusable[m] for m, n in whole.unusable.items()},
        )
    if whole is None:
        raise InputError("there are no objects: give a store that holds some")
    sample = _together(samples)
    if len(sample) > limit:
        sample = sample.take(np.sort(np.argpartition(sample.keys, limit)[:limit]))
    return Summary(whole.folds, whole.objects, whole.moments, sample, whole.unusable)


def _together(pieces: Sequence[Rows]) -> Rows:
    first = pieces[0]
    return Rows(
        first.start,
        {m: np.concatenate([p.vectors[m] for p in pieces]) for m in first.vectors},
        {m: np.concatenate([p.valid[m] for p in pieces]) for m in first.valid},
        np.concatenate([p.keys for p in pieces]),
        np.concatenate([p.groups for p in pieces]),
    )
