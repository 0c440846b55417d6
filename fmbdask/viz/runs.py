"""Figures of a survey run: how fast it went, and how much memory it took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fmbdask.viz.style import FAINT, INK, styled

Floats = NDArray[np.float64]

#: Colours of what time is spent on.
SHARES = {"read": "#1aa7c7", "compute": "#f5a000", "write": "#7a5cc0", "wait": "#cfd4da"}
#: Most bins of a history.
BINS = 120


def spread(begin: Floats, end: Floats, amount: Floats, edges: Floats) -> Floats:
    """Spread amounts evenly over the time they took, and sum them up in bins.

    Parameters
    ----------
    begin, end : (n,) arrays
        When each unit began and ended [s].
    amount : (n,) array
    edges : (m + 1,) array
        Edges of the bins [s].

    Returns
    -------
    (m,) array
        The amount in each bin.
    """
    begin, end, edges = begin - edges[0], end - edges[0], edges - edges[0]
    length = np.maximum(end - begin, 1e-6)
    total = np.zeros(edges.size)
    # what had come by each edge: the sum of straight lines from 0 at the begin to the amount at the end
    for times, sign in ((begin, 1.0), (end, -1.0)):
        order = np.argsort(times, kind="stable")
        rate = np.concatenate([[0.0], np.cumsum((amount / length)[order])])
        moment = np.concatenate([[0.0], np.cumsum((amount / length * times)[order])])
        at = np.searchsorted(times[order], edges, side="right")
        total += sign * (rate[at] * edges - moment[at])
    return np.diff(total)


@styled
def throughput(
    begin: Floats,
    end: Floats,
    nbytes: Floats,
    *,
    slots: int = 0,
    events: Sequence[tuple[float, str]] = (),
) -> Figure:
    """Draw bytes a second, and units at work, over time.

    Parameters
    ----------
    begin, end : (n,) arrays
        When each unit began and ended [s since 1970].
    nbytes : (n,) array
        Input that each read [byte].
    slots : int
        Threads that were asked for; 0 draws no line.
    events : sequence of (time, text)
        Moments that are marked.
    """
    import datetime as dt

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    rate, busy = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    first, last = float(begin.min()), float(end.max())
    edges = np.linspace(first, max(last, first + 1e-3), int(np.clip(begin.size / 4, 8, BINS)) + 1)
    times: list[Any] = [dt.datetime.fromtimestamp(t) for t in edges]
    width = np.diff(edges)
    read = spread(begin, end, nbytes, edges) / width / 1e6
    rate.stairs(read, times, fill=True, color=SHARES["read"], alpha=0.85)
    rate.set_ylabel("read [MB/s]")
    rate.set_ylim(0, None)
    working = spread(begin, end, end - begin, edges) / width
    busy.stairs(working, times, fill=True, color=SHARES["compute"], alpha=0.85)
    busy.set_ylabel("regions in work")
    busy.set_ylim(0, max(slots, float(working.max(initial=0))) * 1.1 + 0.1)
    if slots:
        busy.axhline(slots, color=INK, linewidth=0.9, linestyle="--")
    for axes in (rate, busy):
        for when, _ in events:
            if first <= when <= last:
                axes.axvline(dt.datetime.fromtimestamp(when), color="#b3261e", linewidth=0.9)
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    busy.xaxis.set_major_locator(locator)
    busy.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    return figure


@styled
def memory(peaks: Floats, *, projected: float = 0.0, allowance: float = 0.0) -> Figure:
    """Draw the anonymous memory of worker processes while units ran, against what was projected and allowed.

    Parameters
    ----------
    peaks : (n,) array
        Largest anonymous memory during each unit [byte].
    projected, allowance : float
        Of one worker process [byte]; 0 draws no line.
    """
    figure = Figure(figsize=(9.6, 2.8), layout="constrained")
    axes = figure.subplots()
    most = max(float(peaks.max(initial=0)), projected, allowance) / 1e6
    axes.hist(
        peaks / 1e6, bins=np.linspace(0, most * 1.05 + 1, 80).tolist(), color=SHARES["write"], alpha=0.85
    )
    axes.set_yscale("log")
    axes.set_xlabel("anonymous memory of the process [MB]")
    axes.set_ylabel("units")
    lines = [(projected, "projected", "--"), (allowance, "allowed", "-")]
    if abs(projected - allowance) < 0.03 * allowance:  # two words would cover each other
        lines = [(allowance, "projected and allowed", "-")]
    for value, text, style in lines:
        if value:
            axes.axvline(value / 1e6, color=INK, linewidth=1.1, linestyle=style)
            axes.annotate(
                f"{text} {value / 1e6:.0f}", (value / 1e6, 0.97), xycoords=("data", "axes fraction"),
                rotation=90, ha="right", va="top", fontsize=9, color=FAINT,
            )  # fmt: skip
    return figure
