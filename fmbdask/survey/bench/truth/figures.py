"""Figures of `bench truth`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from fmbdask.viz.style import FAINT, KINDS, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: One colour a setting, from quiet to hard; dashes for the longer ramps.
PALETTE = ("#4c6a92", "#5b9a68", "#d08a1d", "#b8405e", "#7b5aa6")
DASHES = ("-", "--", ":")
#: Ticks of amplitude and light.
TICKS = (0.5, 1, 2, 3, 5, 10, 20, 50)
#: Bins with fewer events are not drawn.
FEWEST = 10
COLOURS = {kind.name: kind.colour for kind in KINDS}


@styled
def quality(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Completeness and purity of each kind in each setting: median of the seeds, and a line to the worst."""
    table = tables["quality"]
    table = table[table["kind"].isin(COLOURS)]
    cases = list(dict.fromkeys(zip(table["setting"], table["frames"], strict=True)))
    figure = Figure(figsize=(9.0, 0.42 * len(cases) + 1.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, share in zip(axes, ("completeness", "purity"), strict=True):
        for k, kind in enumerate(KINDS):
            own = table[table["kind"] == kind.name]
            at = [cases.index(c) for c in zip(own["setting"], own["frames"], strict=True)]
            height = np.array(at) + 0.22 * (k - 1)
            ax.hlines(height, own[f"{share}_worst"], own[share], color=kind.colour, lw=2)
            ax.plot(
                own[share], height, kind.marker, color=kind.colour, label=kind.plural, ms=6, clip_on=False
            )
        ax.axvline(0.98, color=FAINT, lw=0.8, zorder=0)
        ax.set_title(share)
        ax.set_xlim(min(0.85, float(table[f"{share}_worst"].min()) - 0.02), 1.002)
    axes[0].set_yticks(range(len(cases)), [f"{s}, {f} frames" for s, f in cases])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


@styled
def curves(tables: Mapping[str, pd.DataFrame], name: str, label: str) -> Figure:
    """Completeness in bins of amplitude or light, hits and telegraph pixels side by side."""
    table = tables[name]
    table = table[table["events"] >= FEWEST]
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    settings, lengths = list(table["setting"].unique()), list(table["frames"].unique())
    for ax, kind in zip(axes, KINDS, strict=False):
        own = table[table["kind"] == kind.name]
        for (setting, frames), line in own.groupby(["setting", "frames"], sort=False):
            low = np.maximum(line["from"].to_numpy(), 0.25)
            high = np.where(np.isinf(line["to"]), 2 * low, line["to"])
            style = DASHES[lengths.index(frames) % 3]
            colour = PALETTE[settings.index(setting) % 5]
            text = f"{setting}, {frames} frames"
            ax.plot(
                np.sqrt(low * high), line["completeness"], style, color=colour, marker="o", ms=3, label=text
            )
        ax.set_xscale("log")
        ax.set_xticks(TICKS, [f"{t:g}" for t in TICKS])
        ax.minorticks_off()
        ax.set_xlim(max(0.25, 0.9 * tables[name]["from"].min()), 2.2 * tables[name]["from"].max())
        ax.set_xlabel(label)
        ax.set_title(kind.plural)
        ax.set_ylim(0, 1.03)
    axes[0].set_ylabel("completeness")
    if len(table):
        axes[0].legend(fontsize=8)
    return figure


@styled
def calibration(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Realised over stated false-alarm rate with 95 % intervals; the band is a factor of 3 either way.

    A triangle at the edge stands for none found.
    """
    table = tables["false_alarms"]
    lengths, noises = list(table["frames"].unique()), list(table["noise"].unique())
    rates = list(table["stated"].unique())
    figure = Figure(figsize=(3.2 * len(lengths) + 2.2, 0.42 * len(noises) + 1.8), layout="constrained")
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, len(lengths), sharey=True, sharex=True)))
    floor = 0.03
    for ax, frames in zip(axes, lengths, strict=True):
        ax.axvspan(1 / 3, 3, color="#eef1f4", zorder=0)
        ax.axvline(1, color=FAINT, lw=0.8)
        for k, rate in enumerate(rates):
            own = table[(table["frames"] == frames) & (table["stated"] == rate)]
            at = np.array([noises.index(n) for n in own["noise"]]) + 0.22 * (k - (len(rates) - 1) / 2)
            low, high = (np.clip(own[n].to_numpy(float), floor, 30) for n in ("low", "high"))
            ax.hlines(at, low, high, color=PALETTE[k], lw=1.6)
            seen = own["ratio"].to_numpy() > 0
            ratio, colour = np.clip(own["ratio"].to_numpy(), floor, 30), PALETTE[k]
            ax.plot(ratio[seen], at[seen], "o", color=colour, ms=4, label=f"stated {rate:g}")
            ax.plot(ratio[~seen], at[~seen], "<", color=colour, ms=4)
        ax.set_xscale("log")
        ax.set_xlim(0.9 * floor, 30)
        ax.set_title(f"{frames} frames")
        ax.set_xlabel("realised / stated")
    axes[0].set_yticks(range(len(noises)), noises)
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(rates))
    return figure


@styled
def confidence(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of real detections against their stated confidence."""
    table = tables["confidence"]
    figure = Figure(figsize=(5.0, 4.4), layout="constrained")
    ax = figure.subplots()
    ax.fill_between([0, 1], [-0.05, 0.95], [0.05, 1.05], color="#eef1f4")
    ax.plot([0, 1], [0, 1], color=FAINT, lw=0.8)
    for kind in KINDS:
        own = table[table["kind"] == kind.name]
        error = np.sqrt(np.maximum(own["real"] * (1 - own["real"]), 0.02) / own["detections"])
        ax.errorbar(
            own["stated"], own["real"], error, fmt=kind.marker, color=kind.colour, ms=5, label=kind.plural
        )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), xlabel="stated confidence", ylabel="share that is real")
    ax.legend()
    return figure


def figures(tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Every figure by name."""
    drawn: dict[str, Any] = {
        "quality": quality(tables),
        "amplitude": curves(tables, "amplitude", "amplitude of the brightest pixel [sigma]"),
        "light": curves(tables, "light", "light on the brightest pixel [electron / frame]"),
        "confidence": confidence(tables),
    }
    if "false_alarms" in tables:
        drawn["calibration"] = calibration(tables)
    return drawn
