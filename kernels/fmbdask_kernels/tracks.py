"""Straight tracks in a stack of images: the most significant sum along any short line through each pixel.

A bank of matched filters. A track is a straight line that starts and ends anywhere, and charge falls beside
the line as well, so the pixels of a line share a part of their weight with the two neighbours across it. Rows
are pushed sideways by the slope of a line, so that the line runs down one column, and sums down a column are
differences of running ones: a longer line costs no more than a short one. Lines nearer to the row axis are
those of the transposed image.
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .jit import kernel, stage

f4 = np.float32

#: Columns per row of the lines that run down, and rows per column of those that run across: every 180 / 16
#: degrees.
SLOPES = tuple(float(np.tan(np.deg2rad(11.25 * (k + 0.5) - 45))) for k in range(8))
#: Pixels of a line on each side of its middle, along the axis that it is nearer to.
HALVES = (1, 2, 4, 6, 9)
_H0, _H1, _H2, _H3, _H4 = HALVES
#: Weight of the neighbours across a line: charge spreads, and lines run between pixels.
ACROSS = 0.25
#: Pixels around a block that lines reach into.
MARGIN = HALVES[-1] + 1
#: Rows that are pushed and summed together, their columns, and the SIMD lanes those take when pushed.
STRIP, COLUMNS = 16, 128
_ROWS = STRIP + 2 * _H4
LANES = COLUMNS + _ROWS + 14
#: One over the error of a sum of pixels of unit noise, by length.
SCALES = tuple(1 / np.sqrt((2 * half + 1) * (1 + 2 * ACROSS**2)) for half in HALVES)
_S0, _S1, _S2, _S3, _S4 = (f4(s) for s in SCALES)


@stage
def pushed(row, slope):
    """Columns by which a line has moved in a row, from row 0 on."""
    return np.int64(np.floor(row * slope + 0.5))


@stage
def _sum_strip(source, first, start, slope, sums, top):
    """Largest sums of the lines of one slope through :data:`STRIP` rows from ``first`` on.

    ``source`` has :data:`LANES` zeros or values on either side of the columns from ``start`` on; of ``sums``,
    each row is the one above plus a row of the image, moved so that a line is a column.
    """
    middle = pushed(first + STRIP // 2, slope)
    half = (LANES - COLUMNS) // 2
    for j in range(LANES):
        sums[j] = f4(0)
    for r in range(_ROWS):
        row = first - _H4 + r
        begin = start - half + pushed(row, slope) - middle
        own = source[row, begin : begin + LANES]
        above, below = sums[r * LANES : (r + 1) * LANES], sums[(r + 1) * LANES : (r + 2) * LANES]
        for j in range(LANES):
            below[j] = above[j] + own[j]
    for r in range(STRIP):
        a = sums[r * LANES : (r + 2 * _H4 + 2) * LANES]
        begin = half - (pushed(first + r, slope) - middle)
        b, best = a[begin:], top[r * COLUMNS : (r + 1) * COLUMNS]
        for j in range(COLUMNS):
            s0 = b[j + (_H4 + _H0 + 1) * LANES] - b[j + (_H4 - _H0) * LANES]
            s1 = b[j + (_H4 + _H1 + 1) * LANES] - b[j + (_H4 - _H1) * LANES]
            s2 = b[j + (_H4 + _H2 + 1) * LANES] - b[j + (_H4 - _H2) * LANES]
            s3 = b[j + (_H4 + _H3 + 1) * LANES] - b[j + (_H4 - _H3) * LANES]
            s4 = b[j + (_H4 + _H4 + 1) * LANES] - b[j + (_H4 - _H4) * LANES]
            value = max(max(s0 * _S0, s1 * _S1), max(s2 * _S2, max(s3 * _S3, s4 * _S4)))
            best[j] = max(best[j], value)


@kernel
def _sum_along_lines(images, slopes, best):
    """The loop behind :func:`brightest_lines`."""
    nt, ny, nx = best.shape
    tall, wide = -(-ny // STRIP) * STRIP, -(-nx // STRIP) * STRIP
    tall, wide = max(tall, wide), max(tall, wide)
    # both images, one of them transposed, with room for the lanes and for whole strips
    source = np.zeros((2, tall + 2 * MARGIN, wide + COLUMNS + 2 * LANES), f4)
    sums = np.zeros((_ROWS + 2) * LANES, f4)
    top = np.empty(STRIP * COLUMNS, f4)
    across = f4(ACROSS)
    for t in range(nt):
        image = images[t]
        for y in range(1, ny + 2 * MARGIN - 1):
            for x in range(1, nx + 2 * MARGIN - 1):
                value = image[y, x]
                source[0, y, LANES + x] = value + across * (image[y, x - 1] + image[y, x + 1])
                source[1, x, LANES + y] = value + across * (image[y - 1, x] + image[y + 1, x])
        for turned in range(2):
            rows, columns = (nx, ny) if turned else (ny, nx)
            for first in range(0, rows, STRIP):
                for start in range(0, columns, COLUMNS):
                    for j in range(STRIP * COLUMNS):
                        top[j] = f4(-1e30)
                    for k in range(slopes.size):
                        _sum_strip(
                            source[turned], first + MARGIN, start + LANES + MARGIN, slopes[k], sums, top
                        )
                    for r in range(min(STRIP, rows - first)):
                        for j in range(min(COLUMNS, columns - start)):
                            value = top[r * COLUMNS + j]
                            if turned:
                                best[t, start + j, first + r] = max(value, best[t, start + j, first + r])
                            else:
                                best[t, first + r, start + j] = value


def brightest_lines(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Most significant sum along a line through each pixel.

    Parameters
    ----------
    images : (T, ny + 2 MARGIN, nx + 2 MARGIN) float32 array
        Values of unit noise, independent from pixel to pixel; 0 where there is none.

    Returns
    -------
    (T, ny, nx) float32 array
        Largest weighted sum along a line with the pixel in its middle, over its error.

    Notes
    -----
    Sixteen directions, five lengths (:data:`HALVES`). Of tracks of 2 to 20 pixels and a charge cloud of a
    quarter of a pixel the best line gathers .84 to .87 of the signal-to-noise ratio that the pixels of the
    track hold together.
    """
    best = np.empty((images.shape[0], images.shape[1] - 2 * MARGIN, images.shape[2] - 2 * MARGIN), f4)
    _sum_along_lines(np.ascontiguousarray(images, f4), np.array(SLOPES), best)
    return best


def line_pixels(
    image: NDArray[np.float32], y: int, x: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], float]:
    """Pixels of the most significant line through one pixel.

    Parameters
    ----------
    image : (ny + 2 MARGIN, nx + 2 MARGIN) float32 array
        One of those that :func:`brightest_lines` takes.
    y, x : int
        Pixel, counted without the margin.

    Returns
    -------
    rows, columns : (n,) int64 arrays
        Its pixels from end to end, counted without the margin.
    significance : float
        Of its sum.
    """
    found: tuple[float, NDArray[np.int64], NDArray[np.int64]] | None = None
    for turned in (False, True):
        own, along, across = (image.T, x, y) if turned else (image, y, x)
        wide = own + f4(ACROSS) * (np.roll(own, 1, 1) + np.roll(own, -1, 1))
        for slope in SLOPES:
            rows = along + MARGIN + np.arange(-HALVES[-1], HALVES[-1] + 1)
            moved = np.floor(rows * slope + 0.5).astype(np.int64)
            columns = across + MARGIN + moved - moved[HALVES[-1]]
            values = wide[rows, columns].astype(np.float64)
            for half, scale in zip(HALVES, SCALES, strict=True):
                part = slice(HALVES[-1] - half, HALVES[-1] + half + 1)
                sum_ = float(values[part].sum() * scale)
                if found is None or sum_ > found[0]:
                    line = rows[part] - MARGIN, columns[part] - MARGIN
                    found = (sum_, *(line[::-1] if turned else line))
    assert found is not None
    return found[1], found[2], found[0]


@kernel
def _level_rows(images, edges, tame, fewest):
    """The loop behind :func:`level_rows`."""
    nt, ny = images.shape[:2]
    means = np.empty(ny, f4)
    for t in range(nt):
        for part in range(edges.size - 1):
            first, last = edges[part], edges[part + 1]
            chance, seen = f4(0), f4(0)
            for y in range(ny):
                row = images[t, y, first:last]
                total, count = f4(0), f4(0)
                for x in range(last - first):
                    value = row[x]
                    total += min(max(value, -tame), tame)
                    count += f4(1) if value != 0 else f4(0)
                means[y] = f4(0)
                if count >= fewest:
                    means[y] = total / count
                    chance += f4(1) / count
                    seen += means[y] * means[y]
            if seen <= chance:
                continue
            share = f4(1) - chance / seen
            for y in range(ny):
                row, mean = images[t, y, first:last], means[y] * share
                for x in range(last - first):
                    row[x] -= mean if row[x] != 0 else f4(0)


def level_rows(
    images: NDArray[np.float32], edges: NDArray[np.int64], tame: float = 3.0, fewest: int = 8
) -> None:
    """Take out, in place, what the pixels of a row have in common: rows that drift together look like tracks.

    Means of rows are drawn towards zero by the share of their variance in an image that chance explains, so
    that where rows are still, nothing is taken out of a track.

    Parameters
    ----------
    images : (T, ny, nx) float32 array
        Values of unit noise; 0 where there is none, which stays.
    edges : (n + 1,) int64 array
        First columns of the parts of a row that move together, and the end.
    tame : float
        Values are cut here before they count.
    fewest : int
        Values of a part of a row whose mean is taken at all.
    """
    _level_rows(images, edges, f4(tame), f4(fewest))


@kernel
def _list_peaks(best, least, frames, pixels, found):
    """The loop behind :func:`peaks`: how many there are; as many as ``found`` holds are listed."""
    nt, ny, nx = best.shape
    count = 0
    for t in range(nt):
        for y in range(ny):
            for x in range(nx):
                value = best[t, y, x]
                if value < least:
                    continue
                highest = True
                for s in range(max(t - frames, 0), min(t + frames + 1, nt)):
                    for v in range(max(y - pixels, 0), min(y + pixels + 1, ny)):
                        for u in range(max(x - pixels, 0), min(x + pixels + 1, nx)):
                            other = best[s, v, u]
                            before = (s, v, u) < (t, y, x)
                            # of equal neighbours the first one counts
                            if other > value or (other == value and before):
                                highest = False
                                break
                        if not highest:
                            break
                    if not highest:
                        break
                if highest:
                    if count < found.shape[0]:
                        found[count, 0], found[count, 1], found[count, 2] = t, y, x
                    count += 1
    return count


def peaks(best: NDArray[np.float32], least: float, frames: int, pixels: int) -> NDArray[np.int64]:
    """Places whose value is at least ``least``, and the largest within so many frames and pixels.

    Parameters
    ----------
    best : (T, ny, nx) float32 array
    least : float
    frames, pixels : int
        Half the window that a peak is the largest of.

    Returns
    -------
    (n, 3) int64 array
        Frame, row and column, in this order; the first of equal neighbours.
    """
    found = np.empty((1024, 3), np.int64)
    count = _list_peaks(best, f4(least), frames, pixels, found)
    if count > len(found):
        found = np.empty((count, 3), np.int64)
        _list_peaks(best, f4(least), frames, pixels, found)
    return found[:count]
