"""Detector histories as files: whole at any time, and clear about what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.store.history import (
    StoredHistory,
    detectors,
    has_history,
    observation,
    read_history,
    write_history,
)

PIXELS = ["y", "x", "kind", "flagged"]
BRIGHT = ["y", "x", "level", "saturated"]
UNITS = {"y": "pixel", "x": "pixel", "kind": "1", "flagged": "1", "level": "DN", "saturated": "1"}
TYPES = dict.fromkeys(("y", "x", "flagged"), "Int64") | {"kind": "str", "level": "Float32"}
TYPES |= {"saturated": "boolean"}


def stored(detector: str = "H2RG 17/a", rows: int = 3) -> StoredHistory:
    pixels = pd.DataFrame({"y": range(rows), "x": range(rows), "kind": "hot", "flagged": 2})
    bright = pd.DataFrame({"y": [1], "x": [2], "level": np.float32([9]), "saturated": [True]})
    return StoredHistory({"detector": detector, "shape": [4, 4]}, pixels, bright)


def write(folder: Path, history: StoredHistory) -> Path:
    return write_history(folder, history, units=UNITS, types=TYPES)


def read(folder: Path, detector: str = "H2RG 17/a") -> StoredHistory:
    return read_history(folder, detector, columns=PIXELS, bright=BRIGHT)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, stored())
    write(tmp_path, stored("other"))
    held = read(tmp_path)
    assert held.about == {"detector": "H2RG 17/a", "shape": [4, 4]}
    pd.testing.assert_frame_equal(held.pixels, stored().pixels[PIXELS], check_dtype=False)
    pd.testing.assert_frame_equal(held.bright, stored().bright[BRIGHT], check_dtype=False)
    assert sorted(detectors(tmp_path)) == ["H2RG 17/a", "other"]


def test_a_new_version_replaces_both_files(tmp_path: Path) -> None:
    write(tmp_path, stored(rows=3))
    write(tmp_path, stored(rows=4))
    assert len(read(tmp_path).pixels) == 4
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".parquet"]


def test_detectors_whose_names_look_alike_stay_apart(tmp_path: Path) -> None:
    for name in ("a/b", "a b", "a_b"):
        write(tmp_path, stored(name))
    assert sorted(detectors(tmp_path)) == ["a b", "a/b", "a_b"]
    assert read(tmp_path, "a b").about["detector"] == "a b"
    assert not has_history(tmp_path, "a.b")


def test_what_is_missing_or_damaged_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is no folder: build a history with"):
        read(tmp_path / "none")
    with pytest.raises(InputError, match=r"no history of detector H2RG 17/a \(there is: none\)"):
        read(tmp_path)
    path = write(tmp_path, stored())
    with pytest.raises(InputError, match=r"no history of detector x \(there is: H2RG 17/a\): name one with"):
        read(tmp_path, "x")
    table = path.with_name(json.loads(path.read_text())["pixels"])
    whole = table.read_bytes()
    table.write_bytes(whole[:-7] + b"\0" * 7)
    with pytest.raises(InputError, match="is not the table that"):
        read(tmp_path)
    table.unlink()
    with pytest.raises(InputError, match="damaged or its table is missing"):
        read(tmp_path)
    table.write_bytes(whole)
    content = path.read_text()
    for text in (content[:-20], "[]", '{"detector": "H2RG 17/a"}', "\0\1"):
        path.write_text(text)
        with pytest.raises(InputError, match="build it again with"):
            read(tmp_path)
    path.write_text(content)
    with pytest.raises(InputError, match="lacks the columns seen"):
        read_history(tmp_path, "H2RG 17/a", columns=[*PIXELS, "seen"], bright=BRIGHT)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({}, ("", "")),
        ({"INSTRUME": "NIRCAM", "DETECTOR": "NRCA1"}, ("NIRCAM-NRCA1", "")),
        ({"INSTRUME": "X", "DATE-OBS": "2026-03-01T10:00:00"}, ("X", "2026-03-01T10:00:00+00:00")),
        ({"DATE-OBS": "2026-03-01", "TIME-OBS": "10:00:00.5"}, ("", "2026-03-01T10:00:00.500000+00:00")),
        ({"DATE-BEG": "2026-03-01T01:00:00+02:00"}, ("", "2026-02-28T23:00:00+00:00")),
        ({"EXPSTART": 61100.5}, ("", "2026-03-01T12:00:00+00:00")),
        ({"DATE-OBS": "first of March", "EXPSTART": "soon"}, ("", "")),
        ({"EXPSTART": 1e300}, ("", "")),
    ],
)
def test_headers_tell_detector_and_start(
    tmp_path: Path, cards: dict[str, object], expected: tuple[str, str]
) -> None:
    image = fits.PrimaryHDU(np.zeros((5, 4, 4), np.uint16))
    image.header.update(cards)
    image.writeto(tmp_path / "a.fits")
    assert observation(tmp_path / "a.fits", {}) == expected
