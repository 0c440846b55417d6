"""The strongest events one by one: what changed around them, the ramps of their pixels, and the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullLocator

from fmbdask.viz.style import DEEP_MAP, FAINT, INK, KINDS, Kind, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Strength of ink for the first, second and third pixel of an event.
SHADES = (1.0, 0.55, 0.3)
#: Counts up to which the axis of an event that saturates is linear [DN].
LINEAR = 100.0
#: Reads beyond which dots would merge.
DOTS = 150


@styled
def gallery(shown: Sequence[xr.Dataset], *, title: str = "") -> Figure:
    """Draw events as pictures and time series with the models that were fitted.

    Parameters
    ----------
    shown
        What `fmbdask.ramps.examples` returns: one Dataset an event, with `picture` (y, x), `counts`, `used`,
        `model` and `begins` (pixel, frame), and the columns of the event as attributes.
    title
        Name of the exposure.

    Returns
    -------
    matplotlib.figure.Figure
        A row of pictures and one of time series for each kind. Squares on a picture mark the pixels below
        it; dots are reads, hollow where they are not used, and lines the models.
    """
    rows = [(kind, [each for each in shown if each.attrs["type"] == kind.name]) for kind in KINDS]
    rows = [(kind, some) for kind, some in rows if some]
    columns = max((len(some) for _, some in rows), default=1)
    size = (3.4 * max(columns, 2), 3.9 * max(len(rows), 1) + 0.3)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05))
    figure.suptitle(title, x=0.01, ha="left", weight="bold")
    if not rows:
        figure.text(0.5, 0.5, "no events", ha="center", color=FAINT)
        return figure
    panels = figure.subplots(2 * len(rows), columns, squeeze=False, height_ratios=[1.0, 0.9] * len(rows))
    for axes in panels.flat:
        axes.set_visible(False)
    for row, (kind, some) in enumerate(rows):
        for column, event in enumerate(some):
            draw_picture(figure, panels[2 * row, column], event, kind, first=column == 0)
            draw_series(panels[2 * row + 1, column], event, kind, first=column == 0)
    figure.legend(handles=signs(), loc="outside lower left", ncols=4, fontsize=9)
    return figure


def signs() -> list[Line2D]:
    """What dots, lines and squares mean."""
    dot: dict[str, Any] = {"color": INK, "ls": "none", "marker": "o", "ms": 4}
    square: dict[str, Any] = {"color": INK, "ls": "none", "marker": "s", "ms": 8, "mfc": "none", "mew": 1.2}
    return [
        Line2D([], [], label="read, corrected (paler: further pixels of the event)", mew=0, **dot),
        Line2D([], [], label="read not used: saturated or left out", mfc="none", mew=0.6, **dot),
        Line2D([], [], label="fitted model", color=INK, lw=1.8),
        Line2D([], [], label="pixel drawn below its picture (white: saturated)", **square),
    ]


def draw_picture(figure: Figure, axes: Axes, event: xr.Dataset, kind: Kind, *, first: bool) -> None:
    """What changed around an event, with squares around the pixels that are drawn below it."""
    picture = event["picture"]
    values = np.asarray(picture.values, dtype=np.float64)
    y, x = event["y"].values, event["x"].values
    norm = contrast(values)
    extent = (x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5)
    image = axes.imshow(values, cmap=DEEP_MAP, norm=norm, extent=extent)
    bar = figure.colorbar(image, cax=axes.inset_axes((1.02, 0.0, 0.045, 1.0)))
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.set_ticks(list(ticks(norm)), labels=[brief(tick) for tick in ticks(norm)])
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.set_label(f"{picture.attrs['long_name']} [{picture.attrs['units']}]", fontsize=8)
    for k, (py, px) in enumerate(zip(event["pixel_y"].values, event["pixel_x"].values, strict=True)):
        # around the pixel, not on it, and never so small that it cannot be seen
        edge = max(1.0, 0.04 * x.size)
        style: dict[str, Any] = {"fill": False, "ec": kind.colour, "lw": 1.4, "alpha": SHADES[k] ** 0.5}
        axes.add_patch(Rectangle((px - edge / 2, py - edge / 2), edge, edge, **style))
    axes.set_visible(True)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_xlabel("column [pixel]", fontsize=9)
    if first:
        axes.set_ylabel("row [pixel]", fontsize=9)
    place = f"({event['pixel_y'].values[0]}, {event['pixel_x'].values[0]})"
    axes.set_title(f"{kind.label}  {place}", color=kind.colour, fontsize=10)


def draw_series(axes: Axes, event: xr.Dataset, kind: Kind, *, first: bool) -> None:
    """Ramps of the pixels of an event, each less where its model starts, and the models."""
    frames = event["frame"].values
    lowest, highest = [], []
    for k in reversed(range(event.sizes["pixel"])):
        counts = event["counts"].values[k].astype(np.float64)
        used, model = event["used"].values[k], event["model"].values[k]
        start = zero(counts, used, model)
        size = 3.2 if frames.size <= DOTS else 1.6
        shade: dict[str, Any] = {"color": INK, "alpha": SHADES[k], "ls": "none", "marker": "o"}
        axes.plot(frames[used], counts[used] - start, ms=size, mew=0, **shade)
        left = ~used & (frames > frames[used][0] if used.any() else True)
        axes.plot(frames[left], counts[left] - start, ms=size, mfc="none", mew=0.6, **shade)
        line: dict[str, Any] = {"color": kind.colour, "lw": 1.8 - 0.4 * k, "alpha": (1 + SHADES[k]) / 2}
        axes.plot(*upright(frames, model - start, event["begins"].values[k]), zorder=3, **line)
        seen = np.concatenate([counts[used], counts[left], model[np.isfinite(model)]]) - start
        lowest.append(np.min(seen, initial=0.0))
        highest.append(np.max(seen, initial=0.0))
    low, high = min(lowest), max(highest)
    if event.attrs.get("n_saturated", 0) > 0:
        # a core of 60,000 and a halo of 100 in one panel
        axes.set_yscale("asinh", linear_width=LINEAR)
        axes.set_ylim(1.5 * min(low, -LINEAR), 2 * high)
        axes.yaxis.set_minor_locator(NullLocator())
        powers = [0.0, *(10.0**k for k in range(2, 6) if 10.0**k < 2 * high)]
        axes.set_yticks(powers, labels=[brief(power) for power in powers])
    else:
        room = 0.06 * max(high - low, 1e-9)
        axes.set_ylim(low - room, high + room)
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_visible(True)
    if kind.name != "telegraph_noise":
        axes.axvline(event.attrs["first_frame"] - 0.5, color=FAINT, lw=0.8, ls=(0, (4, 3)), zorder=0)
    axes.set_xlim(frames[0] - 1, frames[-1] + 1)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color=FAINT, alpha=0.25, lw=0.6)
    axes.set_xlabel("frame", fontsize=9)
    if first:
        axes.set_ylabel(f"counts - start [{event['counts'].attrs['units']}]", fontsize=9)
    strength = f"{brief(float(event.attrs['amplitude']))} {event['counts'].attrs['units']}"
    full = event.attrs.get("n_saturated", 0) > 0
    certain = "saturates" if full else f"{event.attrs['significance']:.3g} σ"
    words = f"{'> ' if full else ''}{strength}, {certain}, from frame {event.attrs['first_frame']}"
    if event.attrs.get("integrations", 1) > 1:
        words += f" of integration {event.attrs['integration']}"
    axes.set_title(words, fontsize=8.5, weight="normal", loc="left")


def upright(frames: NDArray[np.int64], model: Floats, begins: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Points of a model whose steps stand upright, half a frame before the new level."""
    x, y = frames.astype(np.float64), model
    at = np.flatnonzero(begins)
    at = at[at > 0]
    # each level goes on as it does between its reads next to the step
    ahead, behind = np.minimum(at + 1, y.size - 1), np.maximum(at - 2, 0)
    after = np.where(begins[ahead], 0.0, np.nan_to_num(y[ahead] - y[at]))
    before = np.where(begins[at - 1], after, np.nan_to_num(y[at - 1] - y[behind]))
    ends = np.stack([y[at - 1] + before / 2, y[at] - after / 2], axis=1).ravel()
    places, between = np.repeat(at, 2), np.repeat(x[at] - 0.5, 2)
    return np.insert(x, places, between), np.insert(y, places, ends)


def zero(counts: Floats, used: NDArray[np.bool_], model: Floats) -> float:
    """Where a ramp starts: its model if there is one, else its first read in use."""
    known = model[np.isfinite(model)]
    if known.size:
        return float(known[0])
    return float(counts[used][0]) if used.any() else float(counts[0])


def contrast(picture: Floats) -> AsinhNorm:
    """From the noise to the peak of a picture, bright levels compressed so that halos show."""
    finite = picture[np.isfinite(picture)]
    if finite.size == 0:
        return AsinhNorm(1.0, vmin=0.0, vmax=1.0)
    middle = float(np.median(finite))
    noise = max(1.4826 * float(np.median(np.abs(finite - middle))), 1e-9)
    low = middle - 3 * noise
    return AsinhNorm(10 * noise, vmin=low, vmax=max(float(finite.max()), middle + 5 * noise))


def ticks(norm: AsinhNorm) -> Floats:
    """Levels that stand evenly on a colour bar."""
    return np.array([float(f"{level:.2g}") for level in norm.inverse(np.linspace(0.04, 0.94, 4))])


def brief(value: float) -> str:
    """A number in few characters."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.0f}" if abs(value) >= 100 else f"{value:.2g}"
    return text.replace("-", "−")
