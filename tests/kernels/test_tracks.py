"""Lines through images, against sums taken pixel by pixel."""

from __future__ import annotations

import numpy as np
from fmbdask_kernels.tracks import (
    ACROSS,
    COLUMNS,
    HALVES,
    MARGIN,
    SLOPES,
    STRIP,
    brightest_lines,
    level_rows,
    line_pixels,
    peaks,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray


def reference(image: NDArray[np.float32], y: int, x: int) -> float:
    """The largest sum along a line, every template painted and multiplied."""
    best = -np.inf
    window = image[y : y + 2 * MARGIN + 1, x : x + 2 * MARGIN + 1].astype(np.float64)
    for turned in (False, True):
        row = (x if turned else y) + MARGIN
        for slope in SLOPES:
            for half in HALVES:
                weights = np.zeros((2 * MARGIN + 1,) * 2)
                for step in range(-half, half + 1):
                    column = MARGIN + int(np.floor((row + step) * slope + 0.5) - np.floor(row * slope + 0.5))
                    weights[MARGIN + step, column - 1 : column + 2] += ACROSS, 1, ACROSS
                sums = ((weights.T if turned else weights) * window).sum()
                best = max(best, sums / np.sqrt((weights**2).sum()))
    return best


@settings(max_examples=20, deadline=None)
@given(
    ny=st.integers(1, 2 * STRIP + 3), nx=st.integers(1, COLUMNS + 9), seed=st.integers(0, 99)
)  # fmt: skip
def test_sums_are_those_of_painted_lines(ny: int, nx: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.standard_normal((2, ny + 2 * MARGIN, nx + 2 * MARGIN)).astype(np.float32)
    best = brightest_lines(images)
    assert best.shape == (2, ny, nx)
    for _ in range(5):
        t, y, x = random.integers(2), int(random.integers(ny)), int(random.integers(nx))
        wanted = reference(images[t], y, x)
        assert abs(best[t, y, x] - wanted) < 1e-5 * max(abs(wanted), 1)
        rows, columns, significance = line_pixels(images[t], y, x)
        assert abs(significance - wanted) < 1e-5 * max(abs(wanted), 1)
        assert len(rows) in {2 * half + 1 for half in HALVES}
        assert (rows[len(rows) // 2], columns[len(rows) // 2]) == (y, x)


def test_noise_has_unit_sums_and_a_track_stands_out() -> None:
    random = np.random.default_rng(1)
    images = random.standard_normal((1, 90, 90)).astype(np.float32)
    along = np.arange(-6, 7)
    at = MARGIN + 30
    images[0, at + np.rint(along * 0.4).astype(int), at + along] += 3.0
    best = brightest_lines(images)
    ((t, y, x),) = peaks(best, 6.0, 3, 4)
    assert t == 0
    assert abs(y - 30) <= 2
    assert abs(x - 30) <= 4
    rows, columns, significance = line_pixels(images[0], y, x)
    assert significance > 6
    assert len(rows) in (9, 13, 19)
    assert np.polyfit(columns, rows, 1)[0] > 0
    # a largest one of 80 sums of unit width
    assert 1.6 < best.mean() < 2.1


def test_peaks_are_the_largest_around_and_one_of_equals() -> None:
    best = np.zeros((20, 30, 30), np.float32)
    best[3, 5, 5], best[4, 6, 6], best[3, 5, 20] = 7, 6, 6
    best[15, 5, 5] = best[15, 5, 7] = 8
    assert peaks(best, 5.0, 3, 4).tolist() == [[3, 5, 5], [3, 5, 20], [15, 5, 5]]
    assert peaks(best, 6.5, 3, 4).tolist() == [[3, 5, 5], [15, 5, 5]]
    many = np.zeros((1, 100, 100), np.float32)
    many[0, ::2, ::2] = 9
    assert len(peaks(many, 5.0, 0, 1)) == 2500


def test_blocks_beside_each_other_give_the_same_sums() -> None:
    images = np.random.default_rng(3).standard_normal((1, 80, 100)).astype(np.float32)
    whole = brightest_lines(images)
    # slopes are counted from a row and a column of the image: blocks are those of one grid
    part = brightest_lines(images[:, :, : 60 + 2 * MARGIN])
    assert np.allclose(part, whole[:, :, :60], rtol=1e-5, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(drift=st.sampled_from([0.0, 0.3, 2.0]), edge=st.integers(3, 37), seed=st.integers(0, 99))
def test_rows_lose_what_they_have_in_common(drift: float, edge: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.standard_normal((4, 50, 40)) + drift * random.standard_normal((4, 50, 1))
    images[random.random(images.shape) < 0.2] = 0
    images[:, 7] = 0
    images[1, :, :] = 0
    wanted = images.copy()
    for t in range(4):
        for part in (slice(0, edge), slice(edge, 40)):
            own = images[t, :, part]
            count = (own != 0).sum(axis=1)
            told = count >= 8
            mean = np.where(told, np.clip(own, -3, 3).sum(axis=1) / np.maximum(count, 1), 0)
            chance, seen = (1 / count[told]).sum(), (mean**2).sum()
            share = max(1 - chance / seen, 0) if seen > 0 else 0
            wanted[t, :, part] = np.where(own != 0, own - share * mean[:, None], 0)
    found = images.astype(np.float32)
    level_rows(found, np.array([0, edge, 40]))
    assert np.allclose(found, wanted, atol=2e-5)
    assert (found[:, 7] == 0).all()
    if drift == 2.0:
        assert found[0].mean(axis=1).std() < 0.5 * images[0].mean(axis=1).std()
