"""What a list says of each object beside its rank: its family, and its nearest ordinary objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .alignment import Alignment
from .contrast import Contrast
from .detector import Detector
from .families import ALIKE, families
from .mahalanobis import Mahalanobis
from .rows import Rows, by_tiles
from .surroundings import Surroundings


def families_of(
    detectors: Mapping[str, Detector], rows: Rows, reasons: Sequence[str], *, alike: float = ALIKE
) -> NDArray[np.int64]:
    """Group listed objects that deviate alike in what put them into the list.

    Parameters
    ----------
    detectors : mapping
        Name -> fitted detector. Deviations come from :class:`Contrast` or, where there is none of a modality,
        from the :class:`Mahalanobis` of most components.
    rows : Rows
        Objects of the list, most anomalous first.
    reasons : sequence of str
        For each object the name of the detector that put it there.
    alike : float
        See :func:`~fmbdask.anomaly.families.families`.

    Returns
    -------
    (n,) int64
        Place of the family's first member. Objects without such a detector are families of their own.
    """
    out = np.arange(len(rows))
    own = np.array([" ".join(detectors[r].modalities) if r in detectors else "" for r in reasons], object)
    for kind in dict.fromkeys(own.tolist()):
        modalities = kind.split()
        tellers = [_teller(detectors, m) for m in modalities]
        places = np.flatnonzero(own == kind)
        places = places[rows.all_valid(modalities)[places]] if modalities else places[:0]
        if not len(places) or any(t is None for t in tellers):
            continue
        some = rows.take(places)
        found = np.concatenate([deviations(t, some) for t in tellers if t is not None], axis=1)
        out[places] = places[families(found, [kind] * len(places), alike=alike)]
    return out


def nearest_ordinary(
    detectors: Mapping[str, Detector], rows: Rows, reasons: Sequence[str], count: int = 3
) -> NDArray[np.uint64]:
    """Keys of the reference objects nearest to each listed one, in the modality that put it into the list.

    Of reasons with two modalities the first counts. Keys are those of :func:`~fmbdask.anomaly.folds.keys_of`;
    references are what :class:`Contrast` or :class:`Alignment` compare with, never of the object's own fold.

    Returns
    -------
    (n, count) uint64
        0 where there is none.
    """
    out = np.zeros((len(rows), count), np.uint64)
    own = np.array([detectors[r].modalities[0] if r in detectors else "" for r in reasons], object)
    for modality in dict.fromkeys(m for m in own.tolist() if m):
        found = _surroundings(detectors, modality)
        places = np.flatnonzero((own == modality) & rows.valid[modality])
        if found is None or not len(places):
            continue
        surroundings, keys = found
        nearest = surroundings.nearest(rows.take(places))[:, :count]
        out[places, : nearest.shape[1]] = np.where(nearest < 0, np.uint64(0), keys[nearest])
    return out


def deviations(detector: Contrast | Mahalanobis, rows: Rows) -> NDArray[np.float32]:
    """How rows differ from the mean, in units of what is ordinary along each component, as features.

    Components of different folds have axes of their own, so that coordinates along them cannot be compared.

    Returns
    -------
    (n, D) float32
    """
    basis, variances = detector.basis, detector.variances
    assert basis is not None
    assert variances is not None
    scale = np.sqrt(variances).astype(np.float32)

    def apply(fold: int, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        found = basis.centred(fold, tile) @ basis.vectors[fold] / scale[fold]
        back: NDArray[np.float32] = found @ basis.vectors[fold].T
        return back

    return by_tiles([rows.vectors[basis.modality]], rows.folds(detector.folds), detector.folds, apply)


def _teller(detectors: Mapping[str, Detector], modality: str) -> Contrast | Mahalanobis | None:
    able = [
        d for d in detectors.values()
        if isinstance(d, (Contrast, Mahalanobis)) and d.modalities == (modality,) and d.basis is not None
    ]  # fmt: skip
    return max(able, key=lambda d: (isinstance(d, Contrast), d.basis.last if d.basis else 0), default=None)


def _surroundings(
    detectors: Mapping[str, Detector], modality: str
) -> tuple[Surroundings, NDArray[np.uint64]] | None:
    for detector in detectors.values():
        if isinstance(detector, (Contrast, Alignment)) and detector.local is not None:
            for own in detector.local.surroundings:
                if own.modality == modality:
                    return own, detector.local.keys
    return None
