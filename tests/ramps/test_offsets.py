"""Offsets that were put into a ramp are taken out, and reads that settle are left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import describe
from fmbdask.ramps.measured import from_arrays, measure, to_arrays
from fmbdask.ramps.prepare import Prepared, prepare

from .made_up import SIGMA, counts, labelled

FRAMES, ROWS, COLUMNS = 24, 72, 96
BORDER = {"reference_border": [4, 4, 4, 4], "amplifiers": 4}


def prepared(ramp: xr.DataArray, **options: Any) -> Prepared:
    return prepare(ramp, describe(ramp), DetectionConfig.model_validate(options), 0)


def with_offset(offset: NDArray[Any], seed: int = 1) -> NDArray[np.uint16]:
    """White noise plus an offset that broadcasts to (frame, y, x)."""
    values = counts(FRAMES, ROWS, COLUMNS, seed=seed, dtype=np.float32) + offset
    return np.rint(values).astype(np.uint16)


def corrected(p: Prepared) -> NDArray[np.float64]:
    """The correction of every pixel, (frame, y, x), without mean and slope: those belong to the sky."""
    c = p.correction
    whole = (c.column[:, None] + c.gradient[:, None] * c.height[:, None] + c.row[:, :, None]).astype(float)
    return straightened(whole)


def straightened(offset: NDArray[Any]) -> NDArray[np.float64]:
    t = np.arange(offset.shape[0]) - (offset.shape[0] - 1) / 2
    slope = np.tensordot(t, offset, 1) / (t @ t)
    return np.asarray(offset - offset.mean(axis=0) - t[:, None, None] * slope)


def residual(offset: NDArray[Any], options: dict[str, Any] | None = None, **labels: Any) -> float:
    """Rms of what is left of an offset in the active area [DN]."""
    ramp = labelled(with_offset(offset), **(BORDER | labels))
    p = prepared(ramp, skip_first=0, skip_last=0, **(options or {}))
    left = straightened(np.broadcast_to(offset, (FRAMES, ROWS, COLUMNS))) - corrected(p)
    return float(np.sqrt(np.mean(left[:, 4:-4, 4:-4] ** 2)))


def groups(seed: int = 3) -> NDArray[np.float64]:
    """An offset per read, amplifier and column parity, (frame, 1, x) [DN]."""
    values = np.random.default_rng(seed).normal(0, 15, (FRAMES, 8))
    x = np.arange(COLUMNS)
    return np.asarray(values[:, None, x // 24 * 2 + x % 2])


NOTHING = np.zeros((1, 1, 1))
#: Largest rms left of an offset that some 700 active pixels share: the noise of their mean.
LEFT = 2.5 * SIGMA / np.sqrt(700)


def test_amplifier_and_parity() -> None:
    assert residual(groups()) < LEFT


@pytest.mark.parametrize(
    "labels",
    [
        {"reference_border": [0, 0, 0, 0]},
        {"reference_border": [4, 0, 0, 0]},
        {"reference_border": [0, 4, 0, 0]},
        {"reference_border": [0, 0, 4, 4]},
    ],
)
def test_borders_on_some_sides_only(labels: dict[str, Any]) -> None:
    assert residual(groups(), **labels) < LEFT


def test_interleaved_amplifiers_with_a_border_left_and_right() -> None:
    values = np.random.default_rng(3).normal(0, 15, (FRAMES, 6))
    labels = {"reference_border": [0, 0, 4, 4], "amplifiers": 6, "amplifier_layout": "interleaved"}
    assert residual(values[:, None, np.arange(COLUMNS) % 6], **labels) < LEFT


def test_gradient_along_the_columns() -> None:
    # slower than noise, which may differ at bottom and top from read to read
    tilt = 60 * np.sin(np.arange(FRAMES) / 4)[:, None, None]
    height = np.linspace(-0.5, 0.5, ROWS)[:, None]
    # seen by the border alone: row noise would do as well
    left = residual(tilt * height, {"row_noise": False, "common_mode": False})
    assert left < 0.4 * np.std(straightened(np.broadcast_to(tilt * height, (FRAMES, ROWS, 1))))


def test_drift_in_time() -> None:
    drift = 60 * np.exp(-np.arange(FRAMES) / 6)[:, None, None]
    assert residual(drift) < LEFT


def test_constant_offsets_change_nothing() -> None:
    assert residual(np.full((1, 1, 1), 700.0)) == residual(NOTHING) < LEFT


def test_what_is_not_there_is_not_subtracted() -> None:
    p = prepared(labelled(counts(FRAMES, ROWS, COLUMNS)), row_noise=False)
    assert not p.correction.row.any()
    # chance may pass for an offset of a group now and then, but only for its own size
    assert np.abs(p.correction.column).max() < 4 * SIGMA / np.sqrt(2000)


def test_row_noise() -> None:
    rows = np.random.default_rng(5).normal(0, 8, (FRAMES, ROWS, 1))
    assert residual(rows) < 0.6 * residual(NOTHING + rows * 0) + 0.6 * 8
    p = prepared(labelled(with_offset(rows), **BORDER), skip_first=0, skip_last=0)
    assert any("row offsets" in note for note in p.notes)
    found, true = np.diff(p.correction.row[:, 4:-4], axis=0), np.diff(rows[:, 4:-4, 0], axis=0)
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.9


def test_a_glitch_of_one_amplifier_in_one_read_is_taken_out() -> None:
    glitch = np.zeros((FRAMES, 1, COLUMNS))
    glitch[11, :, 24:48] = 120
    # in the light-sensitive pixels alone: no reference pixel shows it
    seen = glitch * ((np.arange(ROWS) >= 4) & (np.arange(ROWS) < ROWS - 4))[:, None]
    assert residual(seen) < LEFT


@pytest.mark.parametrize("option", ["reference_pixels", "common_mode", "row_noise"])
def test_each_correction_can_be_left_out(option: str) -> None:
    rows = np.random.default_rng(5).normal(0, 8, (FRAMES, ROWS, 1))
    ramp = labelled(with_offset(groups() + rows), **BORDER)
    whole = {"skip_first": 0, "skip_last": 0}
    one, other = (prepared(ramp, **whole, **{option: on}).correction for on in (True, False))
    assert any((a != b).any() for a, b in zip(one.parts, other.parts, strict=True))
    none = prepared(ramp, reference_pixels=False, common_mode=False, row_noise=False).correction
    assert not any(none.parts[k].any() for k in (0, 1, 3))


def settling(first: float, last: float) -> xr.DataArray:
    """The first and the last read stand apart, by another amount in every pixel."""
    data = counts(FRAMES, ROWS, COLUMNS, dtype=np.float32)
    random = np.random.default_rng(6)
    data[0] += first * random.normal(1, 0.5, data.shape[1:])
    data[-1] += last * random.normal(1, 0.5, data.shape[1:])
    return labelled(np.rint(data).astype(np.uint16))


def test_reads_that_settle_are_found() -> None:
    p = prepared(settling(-150, 90))
    assert p.used.tolist() == list(range(1, FRAMES - 1))
    text = "; ".join(p.notes)
    assert "the first frame settles and is left out" in text
    assert "the last frame stands out and is left out" in text
    assert prepared(settling(0, 0)).used.size == FRAMES


@pytest.mark.parametrize(("first", "last"), [(0, 0), (3, 0), (0, 2), (2, 5)])
def test_reads_to_skip_may_be_given(first: int, last: int) -> None:
    p = prepared(settling(-150, 90), skip_first=first, skip_last=last)
    assert p.used.tolist() == list(range(first, FRAMES - last))


def test_one_pixel_does_not_pass_for_settling() -> None:
    for seed in range(10):
        assert prepared(labelled(counts(20, 1, 1, seed=seed))).used.size == 20


def test_saturated_pixels_do_not_pass_for_a_common_offset() -> None:
    data = counts(FRAMES, ROWS, COLUMNS)
    data[:, :24] += (np.arange(FRAMES) * 6000).clip(0, 60535).astype(np.uint16)[:, None, None]
    data[11:, :24] = 65535
    p = prepared(labelled(data))
    assert p.used.size == FRAMES
    assert np.abs(p.correction.column).max() < 1.5


def test_what_is_not_known_is_said() -> None:
    notes = "; ".join(prepared(labelled(counts())).notes)
    assert "no reference pixels are known: offsets come from the pixels that see light" in notes
    assert "no gain is known" in notes
    assert "known" not in "; ".join(prepared(labelled(with_offset(NOTHING), gain=1.5, **BORDER)).notes)


def test_measured_offsets_survive_keeping() -> None:
    ramp = labelled(with_offset(groups()), **BORDER)
    detector = describe(ramp)
    measured = measure(ramp, detector, 0)
    arrays = to_arrays([measured], detector)
    again = from_arrays(arrays, detector)
    assert again is not None
    for part in ("reference", "shared"):
        for name, value in vars(getattr(measured, part)).items():
            np.testing.assert_array_equal(getattr(getattr(again[0], part), name), value)
    for other in ({"amplifiers": 2}, {"reference_border": [4, 4, 0, 0]}, {"saturation": 30000.0}):
        assert from_arrays(arrays, describe(ramp.assign_attrs(other))) is None
    del arrays["shared_row"]
    assert from_arrays(arrays, detector) is None
