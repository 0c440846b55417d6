"""Figures hold what the tables hold: one mark an event, in the colour of its kind, with units on the axes."""

from __future__ import annotations

from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from fmbdask.viz.ramps import counts, of_kind, overview
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


def test_overview_of_several_integrations_shows_their_median() -> None:
    _, rate, events = result()
    several = xr.concat([rate, rate + 1, rate + 5], "integration")
    several[0, 3, 4] = np.nan
    figure = overview(several, events)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    expected = rate.values + 1.0
    expected[3, 4] += 2
    np.testing.assert_allclose(shown, expected, rtol=1e-5)
    assert figure.axes[1].get_ylabel() == "median rate of 3 integrations [electron/s]"


@pytest.mark.parametrize("fill", [np.nan, 0.0, 7.0])
def test_overview_of_an_image_without_contrast(fill: float) -> None:
    _, rate, events = result()
    assert drawn(overview(rate.copy(data=np.full(rate.shape, fill)), events.iloc[:0])).startswith(b"\x89PNG")


def test_counts_add_up() -> None:
    _, _, events = result()
    number, strength, time = counts(events, frames=40).axes
    assert [bar.get_width() for bar in number.patches] == [12, 12, 1]
    stacked = max(bar.get_y() + bar.get_height() for bar in time.patches)
    highest = np.histogram(events["first_frame"], np.arange(0, 41, 2))[0].max()
    assert stacked == highest
    assert strength.get_xlabel() == "amplitude [electron]"


def test_counts_of_nothing() -> None:
    _, _, events = result()
    assert drawn(counts(events.iloc[:0], frames=40)).startswith(b"\x89PNG")


def test_style_stays_inside() -> None:
    before = dict(mpl.rcParams)
    _, rate, events = result()
    overview(rate, events)
    assert dict(mpl.rcParams) == before
