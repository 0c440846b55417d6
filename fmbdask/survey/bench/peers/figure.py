"""The figure of `bench peers`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fmbdask.viz.style import styled

#: One colour and marker a tool.
MARKS = (("#e6317d", "D"), ("#8a929c", "o"), ("#4c6a92", "s"), ("#d08a1d", "^"))
#: Column, title, and the range of a logarithmic axis (None: linear).
PANELS = (
    ("hits_found", "hits found", None),
    ("hits_pure", "hits pure", None),
    ("telegraph_found", "telegraph found", None),
    ("clean_flagged", "clean ramps flagged", (1e-6, 1.0)),
    ("cpu_s", "CPU time [s]", (0.01, 100.0)),
    ("per_byte", "memory / exposure", None),
)


@styled
def peers_figure(table: pd.DataFrame) -> Figure:
    """Draw every tool in every setting: quality, false alarms, CPU time and memory."""
    cases = list(dict.fromkeys(zip(table["setting"], table["frames"], strict=True)))
    figure = Figure(figsize=(13.0, 0.34 * len(cases) + 1.7), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (column, title, span) in zip(axes, PANELS, strict=True):
        for (tool, own), (colour, mark) in zip(table.groupby("tool", sort=False), MARKS, strict=False):
            if column not in own or own[column].isna().all():
                continue
            at = [cases.index(c) for c in zip(own["setting"], own["frames"], strict=True)]
            values = own[column].to_numpy(np.float64)
            shown = values if span is None else np.clip(values, *span)
            ax.plot(shown, at, mark, color=colour, label=tool, ms=6, clip_on=False)
        if span:
            ax.set_xscale("log")
            ax.set_xlim(*span)
            ax.minorticks_off()
        else:
            ax.set_xlim(0, max(1.02, 1.05 * table[column].max()) if column in table else 1)
        ax.set_title(title, fontsize=10)
    axes[0].set_yticks(range(len(cases)), [f"{s}, {f} frames" for s, f in cases])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(MARKS))
    return figure
