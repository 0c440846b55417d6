"""What detectors learn from: moments of all objects by fold, and a sample of them, in one pass over a store.

Objects are summed in blocks counted from object 0, blocks in spans, spans in their order: the same bits for
any chunking and any number of workers. The sample holds the objects with the smallest hashes of their ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..regions import BLOCK
from .moments import Moments, Sums, merge
from .rows import Rows
from .threads import one_thread

T = TypeVar("T")
Keep = Callable[[Rows], NDArray[np.bool_]]
#: Most objects of the sample, and most bytes of their vectors.
SAMPLE_ROWS, SAMPLE_BYTES = 100_000, 512 * 2**20
#: Spans of a store: at least so many objects each, and at most so many spans.
SPAN_OBJECTS, MOST_SPANS = 16 * BLOCK, 256
#: Blocks are read several at a time, up to so many bytes of vectors.
PIECE_BYTES = 64 * 2**20
#: Pieces that are worked on at a time.
AHEAD = 2


@dataclass(frozen=True)
class Summary:
    """What is known of a store.

    Attributes
    ----------
    folds : int
    objects : int
    moments : mapping
        Modality -> moments of the valid vectors of each fold; empty if none were taken.
    sample : Rows
    unusable : mapping
        Modality -> objects without a valid vector.
    """

    folds: int
    objects: int
    moments: Mapping[str, tuple[Moments, ...]]
    sample: Rows
    unusable: Mapping[str, int]
    _made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def without(self, modality: str, fold: int) -> Moments:
        """Moments of all folds but one: what a model of that fold may know."""
        return merge(m for k, m in enumerate(self.moments[modality]) if k != fold or self.folds == 1)

    def ordinary(self) -> Summary:
        """The same without objects of the sample that labels say are anomalous; moments never hold them."""
        if self.sample.labels is None:
            return self
        return self.made(
            "ordinary", lambda: replace(self, sample=self.sample.take(self.sample.ordinary()), _made={})
        )

    def made(self, key: Any, make: Callable[[], T]) -> T:
        """What several detectors learn alike (components, say) is made once."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found


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


def piece_of(widths: Mapping[str, int]) -> int:
    """Objects that are read at a time: whole blocks, and whole pieces make up a span.

    Examples
    --------
    >>> piece_of({"image": 768})
    16384
    """
    size = BLOCK
    while size < SPAN_OBJECTS and 8 * size * sum(widths.values()) <= PIECE_BYTES:
        size *= 2
    return size


def sample_limit(objects: int, widths: Mapping[str, int]) -> int:
    """Objects that the sample of a store holds at most."""
    fit = SAMPLE_BYTES // (4 * max(1, sum(widths.values())))
    return min(objects, SAMPLE_ROWS, max(fit, BLOCK))


def sample_share(objects: int, widths: Mapping[str, int]) -> float:
    """Share of the objects that spans put into their samples: a little more than the sample holds at most."""
    limit = sample_limit(objects, widths)
    return limit / max(1, objects) * (1.0 if limit == objects else 1.05)


def summarise(
    rows: Rows | Iterable[Rows],
    folds: int,
    *,
    share: float = 1.0,
    keep: Keep | None = None,
    moments: bool = True,
    threads: int = 1,
) -> Summary:
    """Summarise one span of a store.

    Parameters
    ----------
    rows : Rows or iterable of Rows
        Beginning with a block; if in several pieces, each of whole blocks, in their order.
    folds : int
    share : float
        Of the objects in the sample, see :func:`sample_share`.
    keep : callable, optional
        Which objects count in the moments; by default all that no label says are anomalous.
    moments : bool
        Whether these are wanted.
    threads : int
        To work with; they change no bit.

    Returns
    -------
    Summary
    """
    limit = np.uint64(min(share, 1.0) * (2**64 - 1025))
    sums: dict[tuple[str, int], Sums] = {}
    last: dict[tuple[str, int], Future[None]] = {}
    chosen: list[Rows] = []
    unusable: dict[str, int] = {}
    objects = 0
    with one_thread(), ThreadPoolExecutor(max(1, threads)) as pool:

        def begun(pieces: Iterable[Rows]) -> Iterator[tuple[Rows, Future[NDArray[np.bool_]]]]:
            for piece in pieces:
                yield piece, pool.submit(_counting, piece, keep)

        for piece, counting in _ahead(begun([rows] if isinstance(rows, Rows) else rows)):
            objects += len(piece)
            for modality, valid in piece.valid.items():
                unusable[modality] = unusable.get(modality, 0) + int(len(valid) - valid.sum())
            some = np.logical_or.reduce(list(piece.valid.values()))
            chosen.append(piece.take(some & (piece.keys <= limit)))
            before = dict(last)
            for modality, vectors in piece.vectors.items() if moments else ():
                for fold in range(folds):
                    one = (modality, fold)
                    own = sums.setdefault(one, Sums(vectors.shape[1]))
                    last[one] = pool.submit(_add, own, piece, one, folds, counting, last.get(one))
            for future in before.values():  # at most two pieces at a time
                future.result()
        for future in last.values():
            future.result()
    if not chosen:
        raise InputError("there are no objects: give a store that holds some")
    found: dict[str, tuple[Moments, ...]] = {}
    for modality in dict.fromkeys(m for m, _ in sums):
        found[modality] = tuple(sums.pop((modality, k)).moments() for k in range(folds))
    return Summary(folds, objects, found, joined(chosen), unusable)


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
    folds, objects = 0, 0
    moments: dict[str, list[Moments]] = {}
    unusable: dict[str, int] = {}
    samples: list[Rows] = []
    for one in summaries:
        samples.append(one.sample)
        folds, objects = one.folds, objects + one.objects
        for modality, new in one.moments.items():
            old = moments.setdefault(modality, [Moments.none(new[0].mean.size)] * one.folds)
            for fold, more in enumerate(new):  # one by one: of wide vectors these are the most there is
                old[fold] = old[fold].merged(more)
        for modality, count in one.unusable.items():
            unusable[modality] = unusable.get(modality, 0) + count
    if not samples:
        raise InputError("there are no objects: give a store that holds some")
    keys = np.concatenate([s.keys for s in samples])
    if len(keys) > limit:  # the smallest keys; of equal ones the first
        chosen = np.zeros(len(keys), bool)
        chosen[np.argsort(keys, kind="stable")[:limit]] = True
        ends = np.cumsum([len(s) for s in samples])[:-1]
        for k, mask in enumerate(np.split(chosen, ends)):
            samples[k] = samples[k].take(mask)
    return Summary(folds, objects, {m: tuple(v) for m, v in moments.items()}, joined(samples), unusable)


def joined(pieces: list[Rows]) -> Rows:
    """Objects of several pieces, which are let go one by one: the list is empty afterwards."""
    first = pieces[0]
    if len(pieces) == 1:
        return pieces.pop()
    count = sum(len(p) for p in pieces)
    vectors = {m: np.empty((count, v.shape[1]), v.dtype) for m, v in first.vectors.items()}
    valid = {m: np.empty(count, bool) for m in first.valid}
    keys, groups = np.empty(count, np.uint64), np.empty(count, np.uint64)
    labels = None if first.labels is None else np.empty(count, np.int8)
    begin = 0
    pieces.reverse()
    while pieces:
        piece = pieces.pop()
        span = slice(begin, begin + len(piece))
        for modality in vectors:
            vectors[modality][span] = piece.vectors[modality]
            valid[modality][span] = piece.valid[modality]
        keys[span], groups[span] = piece.keys, piece.groups
        if labels is not None and piece.labels is not None:
            labels[span] = piece.labels
        begin += len(piece)
    return Rows(first.start, vectors, valid, keys, groups, labels)


def _ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, each asked for while the one before is worked on."""
    waiting: list[T] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == AHEAD:
            yield waiting.pop(0)
    yield from waiting


def _counting(piece: Rows, keep: Keep | None) -> NDArray[np.bool_]:
    ordinary = piece.ordinary()
    return ordinary if keep is None else ordinary & keep(piece)


def _add(
    sums: Sums,
    piece: Rows,
    one: tuple[str, int],
    folds: int,
    counting: Future[NDArray[np.bool_]],
    before: Future[None] | None,
) -> None:
    """Add the vectors of one modality and fold, block by block, after those of the piece before."""
    if before is not None:
        before.result()
    modality, fold = one
    use = piece.valid[modality] & counting.result() & (piece.folds(folds) == fold)
    first = piece.start % BLOCK
    for begin in range(-first, len(piece), BLOCK):
        span = slice(max(begin, 0), begin + BLOCK)
        sums.add(piece.vectors[modality][span][use[span]])
