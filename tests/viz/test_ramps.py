"""Figures hold what the tables hold: one mark an event, in the colour of its kind, with units on the axes."""

from __future__ import annotations

from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from fmbdask.viz.ramps import choose, counts, gallery, jump, of_kind, overview
from fmbdask.viz.style import KINDS

from .made_up import result


def drawn(figure: Figure) -> bytes:
    """Bytes of the figure as PNG."""
    target = BytesIO()
    figure.savefig(target, format="png", dpi=40)
    return target.getvalue()


def test_overview_marks_every_event() -> None:
    _, rate, events = result()
    figure = overview(rate, events, title="made up")
    axes = figure.axes[0]
    marks = {to_hex(each.get_edgecolor()[0]): each.get_offsets() for each in axes.collections}
    for kind in KINDS[:2]:
        np.testing.assert_allclose(marks[kind.colour], of_kind(events, kind)[["x", "y"]])
    circles = [patch for patch in axes.patches if isinstance(patch, Circle)]
    assert [patch.center for patch in circles] == [(60.0, 40.0)]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["12 cosmic rays", "12 telegraph pixels", "1 snowball"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("column [pixel]", "row [pixel]")
    assert figure.axes[1].get_ylabel() == "rate [electron/s]"


@pytest.mark.parametrize("fill", [np.nan, 0.0, 7.0])
def test_overview_of_an_image_without_contrast(fill: float) -> None:
    _, rate, events = result()
    assert drawn(overview(rate.copy(data=np.full(rate.shape, fill)), events.iloc[:0])).startswith(b"\x89PNG")


def test_counts_add_up() -> None:
    _, _, events = result()
    number, strength, time = counts(events, frames=40).axes
    assert [bar.get_width() for bar in number.patches] == [12, 12, 1]
    stacked = max(bar.get_y() + bar.get_height() for bar in time.patches)
    highest = np.histogram(events["first_frame"], np.linspace(0, 40, 31))[0].max()
    assert stacked == highest
    assert strength.get_xlabel() == "amplitude [electron]"


def test_counts_of_nothing() -> None:
    _, _, events = result()
    assert drawn(counts(events.iloc[:0], frames=40)).startswith(b"\x89PNG")


def test_gallery_shows_the_time_series_of_the_strongest_pixel() -> None:
    ramp, _, events = result()
    figure = gallery(ramp, events, each=3)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == 2 * (3 + 3 + 1)
    strongest = of_kind(events, KINDS[0]).sort_values("significance").iloc[-1]
    curve = ramp.values[0, :, strongest["peak_y"], strongest["peak_x"]].astype(float)
    line = next(axes for axes in shown if axes.get_ylabel() == "change [DN]").lines[0]
    np.testing.assert_array_equal(line.get_ydata(), curve - curve[0])


def test_gallery_of_lazy_data_at_the_edge() -> None:
    ramp, _, events = result()
    corner = events.iloc[:1].assign(peak_y=0, peak_x=ramp.sizes["x"] - 1, first_frame=0)
    assert drawn(gallery(ramp.chunk(y=32, x=32), corner)).startswith(b"\x89PNG")


def test_examples_range_from_strong_to_weak() -> None:
    _, _, events = result()
    order = choose(events, 4)["significance"]
    assert order.iloc[0] == events["significance"].max()
    assert order.iloc[-1] == events["significance"].min()
    assert order.is_monotonic_decreasing


def test_jump_is_the_change_at_a_frame() -> None:
    values = np.zeros((12, 2, 2))
    values[7:, 1, 0] = 3.0
    np.testing.assert_array_equal(jump(values, 7), [[0, 0], [3, 0]])


def test_style_stays_inside() -> None:
    before = dict(mpl.rcParams)
    _, rate, events = result()
    overview(rate, events)
    assert dict(mpl.rcParams) == before
