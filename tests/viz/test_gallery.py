"""The gallery draws what it is given: pictures, reads and models of each event, with units and colours."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fmbdask.viz.gallery import brief, gallery, upright
from fmbdask.viz.style import KINDS

from .made_up import example


def panels(figure: Figure) -> list[Axes]:
    """Panels with an event, pictures before time series."""
    figure.draw_without_rendering()
    return [axes for axes in figure.axes if axes.get_visible()]


def test_each_event_has_a_picture_and_a_time_series_in_the_colour_of_its_kind() -> None:
    figure = gallery([example(kind.name) for kind in KINDS], title="made up")
    shown = panels(figure)
    assert len(shown) == 6
    for kind, picture, series in zip(KINDS, shown[::2], shown[1::2], strict=True):
        assert picture.get_title("left") == f"{kind.label}  (34, 58)"
        squares = [patch for patch in picture.patches if isinstance(patch, Rectangle)]
        assert [to_hex(square.get_edgecolor()) for square in squares] == [kind.colour] * 2
        centres = [(s.get_x() + s.get_width() / 2, s.get_y() + s.get_height() / 2) for s in squares]
        assert centres == [(58, 34), (59, 34)]
        assert kind.colour in {to_hex(line.get_color()) for line in series.lines}
        assert series.get_xlabel() == "frame"
        assert series.get_ylabel() == "counts - start [DN]"
        assert series.get_title("left") == "500 DN, 33 σ, from frame 20"


def test_reads_and_model_are_those_of_the_event() -> None:
    event = example("cosmic_ray", pixels=1)
    series = panels(gallery([event]))[1]
    start = float(event["model"][0, 0])
    used, left, model = series.lines[:3]
    np.testing.assert_allclose(used.get_ydata(), event["counts"].values[0, :-1] - start)
    np.testing.assert_allclose(left.get_ydata(), event["counts"].values[0, -1:] - start)
    x, y = (np.asarray(values, dtype=float) for values in model.get_data())
    at = np.flatnonzero(x == 19.5)
    np.testing.assert_allclose(np.diff(y[at]), 500.0)
    np.testing.assert_allclose(y[~np.isin(np.arange(y.size), at)], event["model"].values[0] - start)


def test_a_saturating_event_says_so_and_has_no_limit_of_the_axis_of_its_own() -> None:
    event = example("snowball", n_saturated=12, integrations=3)
    series = panels(gallery([event]))[1]
    assert series.get_title("left") == "> 500 DN, saturates, from frame 20 of integration 0"
    assert series.get_yscale() == "asinh"
    assert [text.get_text() for text in series.get_yticklabels()] == ["0", "100", "1,000"]


def test_pixels_without_a_model_and_pictures_without_a_number() -> None:
    event = example("snowball")
    event["model"][:] = np.nan
    event["begins"][:] = False
    event["used"][0] = False
    event["picture"][:] = np.nan
    assert len(panels(gallery([event]))) == 2


def test_a_gallery_of_nothing() -> None:
    assert [text.get_text() for text in gallery([]).texts if text.get_text()] == ["no events"]


def test_no_texts_overlap() -> None:
    names = ["cosmic_ray"] * 4 + ["telegraph_noise"] * 4 + ["snowball"] * 2
    figure = gallery([example(name, n_saturated=1, integrations=5) for name in names], title="long" * 12)
    figure.canvas.draw()
    boxes = [
        text.get_window_extent()
        for axes in panels(figure)
        for text in (axes.xaxis.label, axes.yaxis.label, axes._left_title)  # type: ignore[attr-defined]
        if text.get_text()
    ]
    assert len(boxes) > 20
    for i, box in enumerate(boxes):
        assert not [other for other in boxes[:i] if box.overlaps(other)]


def test_upright_steps_of_a_bent_model() -> None:
    frames = np.arange(6)
    model = np.array([0.0, 1.0, 3.0, 16.0, 20.0, 25.0])
    x, y = upright(frames, model, np.array([False, False, False, True, False, False]))
    np.testing.assert_allclose(x, [0, 1, 2, 2.5, 2.5, 3, 4, 5])
    np.testing.assert_allclose(y, [0, 1, 3, 4, 14, 16, 20, 25])


@pytest.mark.parametrize(
    ("value", "text"), [(59741.3, "59,741"), (352.4, "352"), (-3.63, "−3.6"), (0.0, "0")]
)
def test_numbers_are_brief(value: float, text: str) -> None:
    assert brief(value) == text
