"""Roman exposures of level 1, in the layout of the public schema."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest

from fmbdask.errors import InputError
from fmbdask.regions import Region
from fmbdask.store.ramps import ingest, open_ramp
from fmbdask.store.readers import open_source

from .made_up import ramp, write_roman

SHAPE = (7, 20, 24)


@pytest.mark.parametrize("compression", [None, "zlib", "bzp2", "lz4"])
def test_resultants_and_their_reads(tmp_path: Path, compression: str | None) -> None:
    data = ramp(SHAPE)
    path = write_roman(tmp_path / "r_uncal.asdf", data, compression)
    opened = open_ramp(path)
    assert opened.dtype == np.uint16
    np.testing.assert_array_equal(opened.values[0], data)
    np.testing.assert_array_equal(opened.reads_per_frame, [1, 2, 4, 1, 1, 1, 1])
    np.testing.assert_allclose(opened.read_times, 3.16247 * np.array([1, 2.5, 6.5, 9, 10, 11, 12]))
    assert opened.attrs["reference_border"] == [4, 4, 4, 4]
    assert opened.attrs["instrument"] == "WFI"
    assert opened.attrs["read_interval"] == 3.16247
    assert "gain" not in opened.attrs
    output = open_source(path).reference_output
    assert output is not None
    assert output.shape == (1, 7, 20, 3)
    np.testing.assert_array_equal(output.read(Region(0, 2, 20, 0, 3)), ramp((7, 20, 3), seed=9)[:, 2:])


def test_missing_data_is_flagged(tmp_path: Path) -> None:
    quality = np.zeros(SHAPE, np.uint8)
    quality[2, 3, 4], quality[3, 3, 4], quality[4, 3, 4] = 16, 2, 1
    opened = open_ramp(write_roman(tmp_path / "r.asdf", ramp(SHAPE), resultantdq=quality))
    assert list(opened.flags.values[0, :, 3, 4]) == [0, 0, 1, 2, 1, 0, 0]
    assert opened.flags.values.astype(bool).sum() == 3


def test_a_source_pickles_and_ingests(tmp_path: Path) -> None:
    path = write_roman(tmp_path / "r.asdf", ramp(SHAPE), "lz4")
    source = pickle.loads(pickle.dumps(open_source(path)))
    np.testing.assert_array_equal(source.read(Region(0, 1, 20, 2, 24)), ramp(SHAPE)[:, 1:, 2:])
    stored = open_source(ingest(path, tmp_path / "r.zarr"))
    np.testing.assert_array_equal(stored.reads_per_frame, [1, 2, 4, 1, 1, 1, 1])
    assert stored.reference_output is not None


def test_the_whole_detector_has_32_outputs(tmp_path: Path) -> None:
    data = np.zeros((4, 9, 4096), np.uint16)
    opened = open_ramp(write_roman(tmp_path / "r.asdf", data, read_pattern=[[1], [2], [3], [4]]))
    assert (opened.attrs["amplifiers"], opened.attrs["amplifier_layout"]) == (32, "contiguous")


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"read_pattern": [[1], [2]]}, r"read_pattern\] holds 2 resultants where roman.data has 7"),
        (
            {"read_pattern": [[n] for n in (1, 2, 3, 3, 4, 5, 6)]},
            r"read_pattern\] must list reads from 1 upwards",
        ),
        ({"read_pattern": [[n] for n in range(7)]}, r"read_pattern\] must list reads from 1 upwards"),
        (
            {"read_pattern": [[1], [2], [3], [5, 7], [8], [9], [10]]},
            r"averages reads \[5, 7\] in resultant 4: averages of reads that do not follow each",
        ),
        ({"read_pattern": "all"}, r"read_pattern\] holds no resultants"),
        ({"exposure": {"frame_time": -1.0}}, r"frame_time = -1.0: mend the header, it must be above 0"),
        ({"exposure": {"frame_time": None}}, r"lacks roman.meta.exposure.frame_time: mend the metadata"),
        ({"resultantdq": np.zeros((7, 20, 23), np.uint8)}, r"resultantdq\] has shape \(7, 20, 23\)"),
        ({"amp33": ramp((6, 20, 3))}, r"amp33\] has shape \(6, 20, 3\) where roman.data has 7"),
    ],
)
def test_what_cannot_be_is_told(tmp_path: Path, more: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        open_ramp(write_roman(tmp_path / "r.asdf", ramp(SHAPE), **more))
    assert "r.asdf" in str(caught.value)


def test_another_asdf_file(tmp_path: Path) -> None:
    asdf.AsdfFile({"image": ramp()}).write_to(tmp_path / "x.asdf")
    with pytest.raises(
        InputError, match=r"x\.asdf has no roman\.data in its ASDF tree: give a Roman exposure"
    ):
        open_ramp(tmp_path / "x.asdf")


def test_truncated_and_damaged_blocks(tmp_path: Path) -> None:
    plain = write_roman(tmp_path / "a.asdf", ramp(SHAPE))
    os.truncate(plain, 4000)
    with pytest.raises(InputError, match=r"a\.asdf (ends within block 0|lies in block|\[)"):
        open_ramp(plain)
    packed = write_roman(tmp_path / "b.asdf", ramp(SHAPE), "zlib")
    content = bytearray(packed.read_bytes())
    content[content.index(b"\xd3BLK") + 1500] ^= 1
    packed.write_bytes(content)
    with pytest.raises(InputError, match=r"b\.asdf holds a block that differs from its checksum: copy"):
        open_ramp(packed).compute()
