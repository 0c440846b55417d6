"""Figures of what was found in one exposure: the image with its events, their numbers, some time series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from fmbdask.viz.style import DEEP_MAP, FAINT, IMAGE_MAP, INK, KINDS, Kind, styled

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Smallest half-width of a cut-out [pixel].
HALF_WIDTH = 7


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
        Count rate, dims (y, x); its attribute `units` labels the colour bar. NaN where there is none.
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
    values = np.asarray(rate.values, dtype=np.float64)
    norm = stretch(values)
    image = axes.imshow(values, cmap=IMAGE_MAP, norm=norm)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02)
    bar.set_label(f"rate [{rate.attrs.get('units', 'DN/s')}]")
    bar.outline.set_visible(False)
    bar.minorticks_off()
    ticks = [float(tick) for tick in norm.inverse(np.linspace(0.02, 0.98, 7))]
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])

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

    edges = np.linspace(0, frames, min(frames, 30) + 1)
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


@styled
def gallery(ramp: xr.DataArray, events: pd.DataFrame, *, each: int = 4, title: str = "") -> Figure:
    """Draw the time series and the neighbourhood of some events of each kind.

    Parameters
    ----------
    ramp
        Labelled ramp, dims (integration, frame, y, x), lazy or not: only the windows drawn are read.
    events
        Events with the columns `type`, `integration`, `peak_y`, `peak_x`, `first_frame`, `amplitude`,
        `significance` and, for snowballs, `radius`.
    each
        Events of a kind; they are spread evenly over the significances found, strongest first.
    title
        Name of the exposure.
    """
    chosen = [(kind, choose(of_kind(events, kind), each)) for kind in KINDS]
    chosen = [(kind, some) for kind, some in chosen if len(some)]
    rows = max(len(chosen), 1)
    figure = Figure(figsize=(3.1 * each, 3.5 * rows), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    panels = figure.subplots(2 * rows, each, squeeze=False, height_ratios=[1.0, 0.8] * rows)
    for axes in panels.flat:
        axes.set_visible(False)
    for row, (kind, some) in enumerate(chosen):
        for column, (_, event) in enumerate(some.iterrows()):
            image, series = panels[2 * row, column], panels[2 * row + 1, column]
            draw_event(image, series, ramp, event, kind, unit(events, "amplitude").strip(" []"))
            if column == 0:
                image.set_ylabel("row [pixel]")
                series.set_ylabel(f"change [{ramp.attrs.get('units', 'DN')}]")
    return figure


def choose(events: pd.DataFrame, each: int) -> pd.DataFrame:
    """Some events, from the most to the least significant."""
    ordered = events.sort_values("significance", ascending=False, kind="stable")
    picks = np.linspace(0, len(ordered) - 1, min(each, len(ordered))).astype(int)
    return ordered.iloc[picks]


def jump(values: Floats, first: int, around: int = 5) -> Floats:
    """Mean of a few frames from `first` on minus that of the few frames before, dims (y, x)."""
    first = min(max(first, 1), len(values) - 1)
    after, before = values[first : first + around], values[max(first - around, 0) : first]
    change: Floats = after.mean(axis=0) - before.mean(axis=0)
    return change


def flicker(values: Floats) -> Floats:
    """Scatter of the differences of frames, dims (y, x)."""
    scatter: Floats = np.diff(values, axis=0).std(axis=0)
    return scatter


def contrast(picture: Floats, peak: float) -> AsinhNorm:
    """From the noise to the peak of an event, bright levels compressed so that halos show."""
    low, middle = np.percentile(picture, [2.0, 50.0])
    noise = max(float(middle - low), 1e-9)
    return AsinhNorm(5 * noise, vmin=low, vmax=max(peak, low + 4 * noise))


def draw_event(
    image: Axes, series: Axes, ramp: xr.DataArray, event: pd.Series[Any], kind: Kind, amplitude_unit: str
) -> None:
    """One event: what changed around it above, the counts of its strongest pixel below."""
    y, x, first = int(event["peak_y"]), int(event["peak_x"]), int(event["first_frame"])
    centre_y, centre_x, half = y, x, HALF_WIDTH
    if kind.name == "snowball":
        centre_y, centre_x = round(event["y"]), round(event["x"])
        half = max(half, int(1.2 * np.nan_to_num(event.get("radius", np.nan), nan=HALF_WIDTH)))
    rows, columns = ramp.sizes["y"], ramp.sizes["x"]
    y0, y1 = max(centre_y - half, 0), min(centre_y + half + 1, rows)
    x0, x1 = max(centre_x - 2 * half, 0), min(centre_x + 2 * half + 1, columns)
    block = ramp.isel(integration=int(event["integration"]), y=slice(y0, y1), x=slice(x0, x1))
    values = np.asarray(block.values, dtype=np.float64)

    picture = flicker(values) if kind.name == "telegraph_noise" else jump(values, first)
    extent = (x0 - 0.5, x1 - 0.5, y0 - 0.5, y1 - 0.5)
    peak = float(picture[y - y0, x - x0])
    image.imshow(picture, cmap=DEEP_MAP, norm=contrast(picture, peak), extent=extent)
    image.plot(x, y, marker="s", ms=9, mfc="none", mec=kind.colour, mew=1.5)
    image.set_visible(True)
    image.tick_params(labelsize=8)
    image.set_xlabel("column [pixel]", fontsize=9)
    image.set_title(f"{kind.label}  ({y}, {x})", color=kind.colour)

    curve = values[:, y - y0, x - x0]
    frames = np.arange(curve.size)
    series.set_visible(True)
    series.plot(frames, curve - curve[0], color=INK, lw=0.8, marker=".", ms=3.0 if curve.size <= 120 else 0.0)
    series.axvline(first - 0.5, color=kind.colour, lw=1.4)
    series.set_xlabel("frame")
    series.grid(axis="y", color=FAINT, alpha=0.25, lw=0.6)
    size = float(event["amplitude"])
    strength = f"{size:,.0f} {amplitude_unit}" if abs(size) >= 1000 else f"{size:.3g} {amplitude_unit}"
    series.set_title(
        f"{strength.rstrip()}, {event['significance']:.3g} σ", fontsize=9, weight="normal", loc="right"
    )
