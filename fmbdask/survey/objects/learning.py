"""Detectors fitted to the summary of one or more stores, together, as each would be by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ...anomaly.detector import Detector
from ...anomaly.ensemble import Ensemble
from ...anomaly.moments import Moments, Sums
from ...anomaly.protocol import Report
from ...anomaly.rows import Rows
from ...anomaly.summary import Summary, merge_summaries
from ...anomaly.threads import one_thread
from ...anomaly.together import learn_together
from ...regions import BLOCK
from .stores import Kept, Known

#: Objects of the sample that a plan trains with when it measures.
REHEARSED = 4096

Progress = Report | None


def learn(
    detectors: Mapping[str, Detector],
    summary: Summary,
    kept: Mapping[str, Kept],
    known: Known,
    progress: Progress = None,
) -> None:
    """Fit detectors that know their modalities; they share what they make of the sample."""
    for detector in detectors.values():
        own = detector.modalities
        detector.begin({m: kept[m].width for m in own}, {m: kept[m].provenance for m in own}, known.group)
        detector.labels = known.labels
    if detectors:
        learn_together(detectors, summary, progress)


def reweighed(
    detectors: Mapping[str, Detector], pieces: Iterable[Rows], folds: int, number: int
) -> dict[str, Summary]:
    """Moments of a span for each detector that takes them again, of the objects ordinary to it; no sample.

    As :func:`~fmbdask.anomaly.summary.summarise` does it for one, but read once for all.
    """
    wanted = {name: d for name, d in detectors.items() if d.reweights > number}
    sums: dict[tuple[str, str, int], Sums] = {}
    objects = 0
    with one_thread():
        for rows in pieces:
            objects += len(rows)
            fold = rows.folds(folds)
            for name, detector in wanted.items():
                counting = rows.ordinary() & detector.ordinary(rows)
                for m in detector.modalities:
                    for k in range(folds):
                        own = sums.setdefault((name, m, k), Sums(rows.vectors[m].shape[1]))
                        use = rows.valid[m] & counting & (fold == k)
                        for begin in range(0, len(rows), BLOCK):
                            span = slice(begin, begin + BLOCK)
                            own.add(rows.vectors[m][span][use[span]])
            last = rows
    found = {}
    for name, detector in wanted.items():
        moments = {
            m: tuple(sums.pop((name, m, k)).moments() for k in range(folds)) for m in detector.modalities
        }
        found[name] = Summary(folds, objects, moments, last.part(0, 0), {})
    return found


def relearn(
    detectors: Mapping[str, Detector],
    summary: Summary,
    moments: Mapping[str, Mapping[str, tuple[Moments, ...]]],
    progress: Progress = None,
) -> None:
    """Fit once more those detectors that have new moments, on the same sample."""
    for name, new in moments.items():
        again = Summary(summary.folds, summary.objects, new, summary.sample, summary.unusable)
        learn_together({name: detectors[name]}, again, progress)


def rehearsal(summary: Summary, detectors: Mapping[str, Detector]) -> Summary:
    """A summary with a small sample, and networks that are trained for one epoch: models of the same size."""
    for detector in detectors.values():
        for one in detector.members.values() if isinstance(detector, Ensemble) else (detector,):
            if hasattr(one, "epochs"):
                one.epochs = 1
    return replace(summary, sample=summary.sample.part(0, min(REHEARSED, len(summary.sample))), _made={})


def merge_all(results: Iterable[Mapping[str, Summary]]) -> dict[str, Summary]:
    """Put what :func:`reweighed` says of spans together, in their order."""
    whole: dict[str, Summary] = {}
    for result in results:
        for name, new in result.items():
            old = whole.get(name)
            whole[name] = new if old is None else merge_summaries([old, new], 0)
    return whole
