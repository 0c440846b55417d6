"""Ramps in HDF5 files."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from fmbdask.errors import InputError
from fmbdask.regions import Region
from fmbdask.store.ramps import ingest, open_ramp
from fmbdask.store.readers import hdf5, open_source

from .made_up import ramp, write_hdf5

SHAPE = (2, 6, 20, 24)


@pytest.mark.parametrize("name", ["data", "ramp"])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (1, 6, 8, 8), "compression": "gzip", "shuffle": True}, {"fletcher32": True}]
)
def test_a_dataset_with_what_stands_beside_it(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    data = ramp(SHAPE)
    opened = open_ramp(write_hdf5(tmp_path / "a.h5", data, name, **options))
    assert opened.dtype == np.uint16
    np.testing.assert_array_equal(opened.values, data)
    np.testing.assert_allclose(opened.read_times, 2.5 * np.arange(1, 7))
    assert opened.read_times.attrs["units"] == "s"
    assert opened.attrs["gain"] == 1.5
    assert opened.attrs["reference_border"] == [1, 1, 1, 1]
    assert opened.attrs["instrument"] == "H2RG"
    flags = opened.flags.values
    assert (flags[..., 1, 2, 3] == 2).all()
    assert flags.sum() == 2 * flags[..., 1, 2, 3].size / flags.shape[1] * flags.shape[1]


@pytest.mark.parametrize("dtype", ["<u2", ">u2", "|u1", ">i4", ">f4", "<f8"])
def test_values_of_any_type(tmp_path: Path, dtype: str) -> None:
    data = (ramp((6, 9, 11)) % 120).astype(dtype)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["data"] = data
    found = open_source(tmp_path / "a.hdf5").read(Region(0, 2, 9, 1, 11))
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, data[:, 2:, 1:])


def test_maps_and_another_name(tmp_path: Path) -> None:
    gain = np.random.default_rng(0).uniform(1, 2, (20, 24)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["night/dark"] = ramp(SHAPE)
        file["gain_map"] = gain
    with pytest.raises(InputError, match=r"a\.h5 has no array named ramp or data: name the array"):
        open_ramp(tmp_path / "a.h5")
    opened = open_ramp(tmp_path / "a.h5", extension="night/dark")
    np.testing.assert_array_equal(opened.gain_map, gain)
    np.testing.assert_array_equal(opened.values, ramp(SHAPE))
    with pytest.raises(InputError, match=r"a\.h5 has no array named night: give the name of one"):
        open_ramp(tmp_path / "a.h5", extension="night")


def test_a_source_pickles_and_ingests(tmp_path: Path) -> None:
    source = open_source(write_hdf5(tmp_path / "a.h5", ramp(SHAPE)))
    packed = pickle.dumps(source)
    assert len(packed) < 4000
    np.testing.assert_array_equal(pickle.loads(packed).read(Region(1, 0, 20, 0, 24)), ramp(SHAPE)[1])
    out = ingest(tmp_path / "a.h5", tmp_path / "a.zarr")
    np.testing.assert_array_equal(open_ramp(out).flags, open_ramp(tmp_path / "a.h5").flags)


def test_chunks_that_were_never_written_are_not_read_as_zero(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("data", (6, 16, 16), "u2", chunks=(6, 8, 8))
        data[:, :8] = 5
    with pytest.raises(InputError, match=r"a\.h5\[data\] lacks 2 of its 4 chunks, which would read as zero"):
        open_ramp(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("data", (6, 16, 16), "u2")
    with pytest.raises(InputError, match=r"b\.h5\[data\] lacks 1 of its 1 chunks"):
        open_ramp(tmp_path / "b.h5")


def test_values_in_other_files_are_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "a.h5", ramp((6, 8, 8)))
    layout = h5py.VirtualLayout((6, 8, 8), "u2")
    layout[...] = h5py.VirtualSource(str(tmp_path / "a.h5"), "data", (6, 8, 8))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_virtual_dataset("data", layout)
    with pytest.raises(InputError, match=r"b\.h5\[data\] keeps its values in other files: copy them"):
        open_ramp(tmp_path / "b.h5")


def test_damage_is_one_sentence(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", ramp((6, 60, 60)))
    os.truncate(path, 9000)
    with pytest.raises(
        InputError, match=r"a\.h5 cannot be read as HDF5 \(.*\): get a fresh copy of it"
    ) as caught:
        open_ramp(path)
    assert "\n" not in str(caught.value)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"] = ramp()
        file["flags"] = np.zeros((6, 10, 11), np.uint8)
    with pytest.raises(InputError, match=r"b\.h5\[flags\] has shape \(6, 10, 11\)"):
        open_ramp(tmp_path / "b.h5")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_hdf5(tmp_path / "a.h5", ramp())
    hdf5.opened.cache_clear()
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"a\.h5 is an HDF5 file, .* pip install 'fmbdask\[formats\]'"):
        open_ramp(path)
