"""Figures of what was found in one exposure: the image with its events, their numbers, some time series.

The same in a notebook as `fmbdask ramps show` draws:

>>> import fmbdask as fm
>>> from fmbdask.viz import ramps as draw
>>> ramp, truth = fm.ramps.simulate(shape=(30, 64, 64), seed=1)
>>> found = fm.ramps.detect(ramp)
>>> image = draw.overview(found.maps.rate, found.events)
>>> series = draw.gallery(fm.ramps.examples(ramp, found.events, found.steps))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from fmbdask.viz.gallery import gallery
from fmbdask.viz.style import IMAGE_MAP, KINDS, Kind, styled

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["counts", "gallery", "overview"]


def of_kind(events: pd.DataFrame, kind: Kind) -> pd.DataFrame:
    """Events of one kind."""
    return events[events["type"] == kind.name]


def unit(events: pd.DataFrame, column: str) -> str:
    """Unit of a column in brackets, empty where the table does not say."""
    found = events.attrs.get("units", {}).get(column, "")
    return f" [{found}]" if found else ""


@styled
def overview(rate: xr.DataArray, events: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw the rate image of an exposure with every event on it.

    Parameters
    ----------
    rate
        Count rate, dims (y, x) or (integration, y, x), of which the median is drawn; its attribute `units`
        labels the colour bar. NaN where there is none.
    events
        Events with the columns `type`, `y`, `x` [pixel] and, for snowballs, `radius` [pixel].
    title
        Name of the exposure.

    Returns
    -------
    matplotlib.figure.Figure
        Cosmic rays and telegraph pixels as small open markers, snowballs as circles of their radius.
    """
    figure = Figure(figsize=(8.2, 7.6), layout="constrained")
    axes = figure.subplots()
    values = middle(rate)
    norm = stretch(values)
    image = axes.imshow(values, cmap=IMAGE_MAP, norm=norm)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    several = rate.ndim == 3 and rate.shape[0] > 1
    what = f"median rate of {rate.shape[0]} integrations" if several else "rate"
    bar.set_label(f"{what} [{rate.attrs.get('units', 'DN/s')}]")
    bar.outline.set_visible(False)
    bar.minorticks_off()
    ticks = [float(f"{tick:.2g}") for tick in norm.inverse(np.linspace(0.03, 0.97, 7))]
    bar.set_ticks(ticks, labels=[f"{tick:g}".replace("-", "−") for tick in ticks])

    size = marker_size(len(events))
    handles = []
    for kind in KINDS:
        some = of_kind(events, kind)
        if kind.name == "snowball":
            radii = some["radius"].fillna(np.sqrt(some["spatial_extent"] / np.pi))
            for y, x, radius in zip(some["y"], some["x"], radii, strict=True):
                axes.add_patch(Circle((x, y), radius + 1, fill=False, lw=1.8, ec=kind.colour))
        else:
            style: dict[str, Any] = {"marker": kind.marker, "edgecolors": kind.colour, "facecolors": "none"}
            axes.scatter(some["x"], some["y"], s=size, linewidths=1.1, **style)
        handles.append(legend_entry(kind, f"{len(some)} {kind.plural if len(some) != 1 else kind.label}"))
    rows, columns = values.shape
    axes.set(
        xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5), xlabel="column [pixel]", ylabel="row [pixel]"
    )
    axes.set_title(title)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def middle(rate: xr.DataArray) -> Floats:
    """Median over the integrations, dims (y, x); NaN where no integration has a value."""
    values = np.asarray(rate.values, dtype=np.float64)
    if values.ndim == 2:
        return values
    known = np.isfinite(values).any(axis=0)
    image = np.full(values.shape[1:], np.nan)
    image[known] = np.nanmedian(values[:, known], axis=0)
    return image


def legend_entry(kind: Kind, label: str) -> Line2D:
    """Open marker of a kind with a label."""
    marker = "o" if kind.name == "snowball" else kind.marker
    size = 12 if kind.name == "snowball" else 7
    style: dict[str, Any] = {"marker": marker, "mec": kind.colour, "mfc": "none", "ms": size, "mew": 1.6}
    return Line2D([], [], ls="none", label=label, **style)


def stretch(values: Floats) -> AsinhNorm:
    """Grey levels that show the background's texture and leave white to the brightest pixels."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return AsinhNorm(1.0, vmin=0.0, vmax=1.0)
    low, middle, high = np.percentile(finite, [1.0, 50.0, 99.7])
    spread = 1.4826 * float(np.median(np.abs(finite - middle)))
    width = max(spread, 1e-6 * max(abs(middle), 1.0))
    return AsinhNorm(3 * width, vmin=low, vmax=max(high, low + 10 * width))


def marker_size(count: int) -> float:
    """Area of a marker [point^2]: smaller where there are thousands."""
    return float(np.clip(60.0 * np.sqrt(100.0 / max(count, 1)), 8.0, 60.0))


@styled
def counts(events: pd.DataFrame, *, frames: int, title: str = "") -> Figure:
    """Draw how many events there are of each kind, how strong they are, and when they came.

    Parameters
    ----------
    events
        Events with the columns `type`, `amplitude` and `first_frame`; `attrs["units"]` labels the axes.
    frames
        Number of frames of the ramp.
    title
        Name of the exposure or survey.
    """
    figure = Figure(figsize=(11.0, 3.4), layout="constrained")
    number, strength, time = figure.subplots(1, 3, width_ratios=[0.8, 1.1, 1.3])
    sizes = [len(of_kind(events, kind)) for kind in KINDS]
    bars = number.barh(
        [kind.plural for kind in KINDS], sizes, color=[kind.colour for kind in KINDS], height=0.62
    )
    number.bar_label(bars, padding=4)
    number.invert_yaxis()
    number.margins(x=0.18)
    number.spines["left"].set_visible(False)
    number.tick_params(axis="y", length=0)
    number.set(xlabel="events", title=title)

    colours, names = [kind.colour for kind in KINDS], [kind.plural for kind in KINDS]
    amplitudes = [magnitudes(of_kind(events, kind)["amplitude"]) for kind in KINDS]
    together = np.concatenate(amplitudes)
    if together.size:
        low, high = np.log10(together.min()), np.log10(together.max())
        edges = np.logspace(low - 0.05, high + 0.05, 25)
        strength.hist(amplitudes, edges.tolist(), stacked=True, color=colours, label=names)
        strength.set_xscale("log")
    strength.set(xlabel=f"amplitude{unit(events, 'amplitude')}", ylabel="events", title="Strength")

    # whole frames in every bin: other widths make a comb
    width = -(-frames // 30)
    edges = np.arange(0, frames + width, width)
    stacks = [of_kind(events, kind)["first_frame"].dropna().to_numpy() for kind in KINDS]
    time.hist(stacks, edges.tolist(), stacked=True, color=colours, label=names)
    time.set(xlim=(0, frames), xlabel="first frame", ylabel="events", title="Time of arrival")
    for axes in (strength, time):
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def magnitudes(values: pd.Series[Any]) -> Floats:
    """Sizes that a logarithmic axis can show: finite and not zero."""
    numbers: Floats = np.abs(values.to_numpy(dtype=np.float64))
    return numbers[np.isfinite(numbers) & (numbers > 0)]
