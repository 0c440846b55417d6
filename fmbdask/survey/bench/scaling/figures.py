"""Figures of the benchmark: efficiency, throughput with the fitted law, where time went, saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbdask.viz.style import FAINT, styled

from .table import SERIES, laws, medians, where_time_went

#: One colour a length of tasks, from short to long.
PALETTE = ("#d08a1d", "#b8405e", "#4c6a92", "#5b9a68", "#7b5aa6", "#8a929c")
PARTS = {"work": "#5b9a68", "slower work": "#d08a1d", "gaps": "#b8405e", "begin and end": "#c9ced6"}
BAND = "#eef1f4"


def panels(count: int, height: float = 3.6, width: float = 4.4) -> tuple[Figure, list[Any]]:
    """A row of panels."""
    figure = Figure(figsize=(max(5.4, width * count), height), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(1, count, squeeze=False)[0]))


def beyond(ax: Any, lines: pd.DataFrame) -> None:
    """Shade where there are more threads than cores."""
    cores, most = float(lines["worker_cores"].max()), float(lines["slots"].max())
    if most > cores:
        ax.axvspan(cores, most * 1.15, color=BAND, zorder=0)
        ax.text(cores * 1.03, 0.02, f"more threads\nthan the {cores:.0f} cores", fontsize=8, color=FAINT)


def slots_axis(ax: Any, slots: Sequence[int]) -> None:
    """Threads on a logarithmic axis, each number that was measured named."""
    ax.set_xscale("log")
    ax.set_xticks(list(slots), [f"{n}" for n in slots])
    ax.minorticks_off()
    ax.set_xlabel("threads")


@styled
def efficiency(rows: pd.DataFrame) -> Figure:
    """Efficiency against threads: of everything (line), and of scheduling alone (dashes)."""
    table = medians(rows)
    tasks = list(table["task"].unique())
    lengths = sorted(table["task_seconds"].unique())
    figure, axes = panels(len(tasks))
    for ax, task in zip(axes, tasks, strict=True):
        own = table[table["task"] == task]
        for seconds, line in own.groupby("task_seconds"):
            colour = PALETTE[lengths.index(seconds) % len(PALETTE)]
            line = line.sort_values("slots")
            ax.plot(line["slots"], line["efficiency"], "-o", ms=4, color=colour, label=f"{seconds:g} s")
            ax.plot(line["slots"], line["scheduling"], "--", lw=1.2, color=colour)
        ax.axhline(1, color=FAINT, lw=0.8)
        if task != "sleep":
            beyond(ax, own)
        slots_axis(ax, sorted(own["slots"].unique()))
        ax.set(ylim=(0, 1.12), title=task)
    axes[0].set_ylabel("efficiency")
    axes[-1].legend(title="tasks of")
    figure.supxlabel(
        "line: throughput of a thread relative to the fewest threads; dashes: share of the threads' time\n"
        "between the beginning and the end of a run that was work, however slow the machine made that",
        fontsize=8,
    )
    return figure


@styled
def throughput(rows: pd.DataFrame) -> Figure:
    """Throughput against threads, every run a point, with the law and its parameters."""
    fitted = laws(rows)
    tasks = list(rows["task"].unique())
    lengths = sorted(rows["task_seconds"].unique())
    figure, axes = panels(len(tasks))
    for ax, task in zip(axes, tasks, strict=True):
        own = rows[rows["task"] == task]
        for key, group in own.groupby(list(SERIES), sort=False):
            seconds = float(group["task_seconds"].iloc[0])
            colour = PALETTE[lengths.index(seconds) % len(PALETTE)]
            law = fitted.get(tuple(key))
            label = f"{seconds:g} s"
            if law is not None:
                n = np.geomspace(group["slots"].min(), group["slots"].max(), 100)
                ax.plot(n, law(n), color=colour)
                label += rf": $\sigma$ {law.sigma:.2g}, $\kappa$ {law.kappa:.1g}"
            ax.plot(group["slots"], group["throughput"], "o", ms=4, color=colour, label=label)
        slots_axis(ax, sorted(own["slots"].unique()))
        ax.set_yscale("log")
        ax.set_title(task)
        ax.legend(fontsize=8)
    axes[0].set_ylabel("regions / s")
    return figure


@styled
def shares(rows: pd.DataFrame) -> Figure:
    """Where the time of all threads went, for every number of them."""
    table = medians(rows)
    series = list(table.groupby(list(SERIES), sort=False))
    columns = min(4, len(series))
    height = -(-len(series) // columns)
    figure = Figure(figsize=(max(5.4, 3.2 * columns), 2.7 * height + 0.6), layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False, sharey=True).ravel()
    for ax, (key, group) in zip(axes, series, strict=False):
        reference = float(group.sort_values("slots")["region_median"].iloc[0])
        went = [where_time_went(line, reference) for _, line in group.iterrows()]
        bottom = np.zeros(len(group))
        for name, colour in PARTS.items():
            part = np.array([each[name] for each in went])
            ax.bar(range(len(group)), part, bottom=bottom, color=colour, label=name, width=0.75)
            bottom += part
        ax.set_xticks(range(len(group)), [f"{n}" for n in group["slots"]])
        ax.set_title(f"{key[2]}, {key[3]:g} s", fontsize=9)
        ax.set_ylim(0, 1)
    for ax in axes[len(series) :]:
        ax.set_visible(False)
    axes[0].set_ylabel("share of the threads' time")
    figure.supxlabel("threads", fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, fontsize=8)
    return figure


@styled
def saturation(rows: pd.DataFrame) -> Figure:
    """Scheduling efficiency, and tasks that were begun in a second, against threads."""
    table = medians(rows)
    lengths = sorted(table["task_seconds"].unique())
    figure, (left, right) = panels(2)
    for seconds, line in table.groupby("task_seconds"):
        colour = PALETTE[lengths.index(seconds) % len(PALETTE)]
        line = line.sort_values("slots")
        left.plot(line["slots"], line["scheduling"], "-o", ms=4, color=colour, label=f"{seconds:g} s")
        left.plot(line["slots"], line["scheduling_total"], "--", lw=1.2, color=colour)
        rate = line["scheduling"] * line["slots"] / line["task_mean"]
        right.plot(line["slots"] / line["task_seconds"], rate, "-o", ms=4, color=colour)
    wanted = table["slots"] / table["task_seconds"]
    ends = [wanted.min(), wanted.max()]
    right.plot(ends, ends, color=FAINT, lw=0.8)
    slots_axis(left, sorted(table["slots"].unique()))
    left.axhline(0.95, color=FAINT, lw=0.8)
    left.set(ylim=(0, 1.05), ylabel="share of the threads' time that was work")
    left.set_title("line: steady; dashes: whole run", fontsize=9)
    left.legend(title="tasks of")
    right.set(xscale="log", yscale="log", xlabel="tasks / s that the threads could do")
    right.set_ylabel("tasks / s that they did")
    return figure


def figures(rows: pd.DataFrame) -> dict[str, Figure]:
    """Every figure by name."""
    if (rows["mode"] == "saturation").all():
        return {"saturation": saturation(rows), "shares": shares(rows)}
    return {"efficiency": efficiency(rows), "throughput": throughput(rows), "shares": shares(rows)}
