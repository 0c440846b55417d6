"""Files for other tools are read back as those tools read them."""

from __future__ import annotations

import re
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from astropy import units
from astropy.io import fits
from astropy.table import Table

from fmbdask.errors import InputError, OutputExistsError
from fmbdask.store.exports.ds9 import write_ds9
from fmbdask.store.exports.groupdq import write_ramp_file
from fmbdask.store.exports.numpy import write_features, write_mask, write_processed
from fmbdask.store.exports.strips import write_strips
from fmbdask.store.exports.tables import to_astropy, write_astropy
from fmbdask.store.ramps import open_ramp

DIMS = ("integration", "frame", "y", "x")
COLOURS = {"cosmic_ray": "#f5a000", "telegraph_noise": "#1aa7c7", "snowball": "#e6317d"}


def made_up(integrations: int = 2, *, interval: float = 10.0, unit: str = "s") -> xr.DataArray:
    """A lazy corrected ramp in uneven chunks."""
    shape = (integrations, 7, 20, 24)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    times = interval * np.arange(1, 8)
    coords = {
        "read_times": ("frame", times, {"units": unit}),
        "reads_per_frame": ("frame", np.ones(7, np.int64)),
    }
    attrs = {"gain": 2.0, "read_noise": 12.0, "reference_border": [4, 4, 4, 4], "amplifiers": 4}
    lazy = da.from_array(values, chunks=(1, 7, 8, 16))
    return xr.DataArray(lazy, coords, DIMS, "ramp", attrs | {"source": "nowhere", "units": "DN"})


def events() -> pd.DataFrame:
    """One event of each kind, with units."""
    table = pd.DataFrame(
        {
            "event_id": [0, 1, 2],
            "type": ["cosmic_ray", "telegraph_noise", "snowball"],
            "integration": [0, 0, 1],
            "y": [3.25, 10.0, 12.5],
            "x": [7.0, 0.0, 20.0],
            "first_frame": [4, 2, 3],
            "amplitude": [100.5, -20.0, np.nan],
            "spatial_extent": [1, 1, 400],
            "significance": [9.0, 6.0, 99.0],
            "radius": [np.nan, np.nan, 11.0],
        }
    )
    pixels = dict.fromkeys(("y", "x", "radius", "spatial_extent"), "pixel")
    others = {"type": "1", "amplitude": "DN", "first_frame": "frame", "significance": "sigma"}
    table.attrs["units"] = pixels | others
    table.attrs |= {"exposure": "here.fits", "versions": {"fmbdask": "0"}}
    return table


@pytest.mark.parametrize(("integrations", "shape"), [(1, (7, 20, 24)), (2, (2, 7, 20, 24))])
def test_numpy_files_have_an_axis_for_several_integrations_only(
    tmp_path: Path, integrations: int, shape: tuple[int, ...]
) -> None:
    ramp = made_up(integrations)
    write_processed(tmp_path / "ramp.npy", ramp)
    read = np.load(tmp_path / "ramp.npy")
    assert (read.shape, read.dtype) == (shape, np.float32)
    np.testing.assert_array_equal(read.reshape(ramp.shape), ramp.values)
    mask = (ramp[:, 0] % 4).drop_vars("read_times", errors="ignore").compute()
    write_mask(tmp_path / "mask.npy", mask)
    codes = np.load(tmp_path / "mask.npy")
    assert (codes.shape, codes.dtype) == ((*shape[:-3], 20, 24), np.uint8)
    maps = xr.Dataset({"slope": mask.astype(np.float32), "other": mask})
    write_features(tmp_path / "maps.npz", maps, ["slope"])
    with np.load(tmp_path / "maps.npz") as archive:
        assert archive.files == ["slope"]
        np.testing.assert_array_equal(archive["slope"].reshape(mask.shape), mask.values)


def test_strips_are_written_one_row_of_chunks_at_a_time() -> None:
    ramp = made_up()
    target = np.zeros(ramp.shape, ">f4")
    write_strips(ramp, lambda: target)
    np.testing.assert_array_equal(target, ramp.values)
    again = np.zeros(ramp.shape, np.float32)
    write_strips(ramp.compute(), lambda: again)
    np.testing.assert_array_equal(again, ramp.values)


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "ramp.npy"
    write_processed(path, made_up())
    with pytest.raises(OutputExistsError, match="already there"):
        write_processed(path, made_up())
    write_processed(path, made_up() + 1, overwrite=True)
    assert np.load(path).ravel()[0] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ramp.npy"]


def test_ramp_file_is_fits_in_the_jwst_layout(tmp_path: Path) -> None:
    ramp = made_up()
    groups = (ramp % 7).astype(np.uint8)
    pixels = np.zeros((20, 24), np.uint32)
    pixels[0], pixels[5, 6], pixels[7, 8] = 2**31, 2**15, 1
    path = write_ramp_file(tmp_path / "a_ramp.fits", ramp, groups, pixels)
    assert path.stat().st_size % 2880 == 0
    with fits.open(path) as file:
        file.verify("exception")
        assert [hdu.name for hdu in file] == ["PRIMARY", "SCI", "PIXELDQ", "GROUPDQ"]
        np.testing.assert_array_equal(file["SCI"].data, ramp.values)
        np.testing.assert_array_equal(file["GROUPDQ"].data, groups.values)
        np.testing.assert_array_equal(file["PIXELDQ"].data, pixels)
        assert file["PIXELDQ"].data.dtype == np.uint32
        header = file[0].header
        names = ("NINTS", "NGROUPS", "NFRAMES", "GROUPGAP", "TGROUP", "TFRAME", "DATAMODL", "FILENAME")
        expected = [2, 7, 1, 0, 10.0, 10.0, "RampModel", "a_ramp.fits"]
        assert [header[name] for name in names] == expected


def test_ramp_file_opens_again_with_its_flags(tmp_path: Path) -> None:
    ramp = made_up()
    groups = xr.DataArray(np.zeros(ramp.shape, np.uint8), dims=DIMS)
    groups[0, 3:, 4, 5], groups[1, 0], groups[0, 2, 9, 9] = 2, 1, 4
    path = write_ramp_file(tmp_path / "a_ramp.fits", ramp, groups, np.zeros((20, 24), np.uint32))
    again = open_ramp(path)
    np.testing.assert_array_equal(again.values, ramp.values)
    np.testing.assert_array_equal(again.flags.values, groups.values & 3)
    np.testing.assert_array_equal(again.read_times, ramp.read_times)
    kept = {key: again.attrs[key] for key in ("gain", "read_noise", "reference_border", "amplifiers")}
    assert kept == {key: ramp.attrs[key] for key in kept}


def test_ramp_file_keeps_the_header_of_the_exposure(tmp_path: Path) -> None:
    source = tmp_path / "raw.fits"
    header = fits.Header({"TELESCOP": "JWST", "INSTRUME": "MIRI", "READPATT": "FAST", "BZERO": 32768})
    header["GROUPGAP"], header["SUBSTRT2"], header["TFRAME"] = 1, 779, 5.0
    fits.PrimaryHDU(np.zeros((4, 4), np.int16), header).writeto(source)
    ramp = made_up().assign_attrs(source=str(source))
    groups = xr.DataArray(np.zeros(ramp.shape, np.uint8), dims=DIMS)
    path = write_ramp_file(tmp_path / "a_ramp.fits", ramp, groups, np.zeros((20, 24), np.uint32))
    written = fits.getheader(path)
    expected = {"TELESCOP": "JWST", "INSTRUME": "MIRI", "READPATT": "FAST", "GROUPGAP": 1, "SUBSTRT2": 779}
    assert {key: written[key] for key in expected} == expected
    assert (written["NAXIS"], written["TFRAME"], written["TGROUP"]) == (0, 5.0, 10.0)
    assert "BZERO" not in written


def test_ramp_file_needs_even_times(tmp_path: Path) -> None:
    groups = xr.DataArray(np.zeros(made_up().shape, np.uint8), dims=DIMS)
    pixels = np.zeros((20, 24), np.uint32)
    with pytest.raises(InputError, match=r"nowhere has no frame time.*give --frame-time"):
        write_ramp_file(tmp_path / "a.fits", made_up(unit="frame"), groups, pixels)
    uneven = made_up()
    uneven = uneven.assign_coords(read_times=uneven.read_times**2)
    uneven.read_times.attrs["units"] = "s"
    with pytest.raises(InputError, match="nowhere: its frames are not evenly spaced"):
        write_ramp_file(tmp_path / "a.fits", uneven, groups, pixels)
    assert list(tmp_path.iterdir()) == []


def test_regions_count_from_one_and_carry_the_colour_of_their_kind(tmp_path: Path) -> None:
    path = write_ds9(tmp_path / "events.reg", events(), colours=COLOURS)
    lines = path.read_text().splitlines()
    assert lines[0] == "# Region file format: DS9 version 4.1"
    assert lines[2] == "image"
    pattern = r"circle\(([\d.]+),([\d.]+),([\d.]+)\) # color=(#\w+) text=\{(\d+)\} (.*)"
    circles = [re.fullmatch(pattern, line) for line in lines[3:]]
    found = [(*map(float, c.groups()[:3]), c[4], int(c[5])) for c in circles if c]
    assert found == [
        (8.0, 4.25, 2.0, "#f5a000", 0),
        (1.0, 11.0, 2.0, "#1aa7c7", 1),
        (21.0, 13.5, 12.0, "#e6317d", 2),
    ]
    assert lines[-1].endswith("tag={snowball} tag={integration 1} tag={frame 3}")


def test_tables_carry_units_and_descriptions() -> None:
    table = to_astropy(events())
    assert table["amplitude"].unit == units.DN
    assert table["y"].unit == units.pixel
    assert table["first_frame"].unit is None
    assert table["first_frame"].description.endswith("[frame]")
    assert table["type"].unit is None
    assert table.meta["exposure"] == "here.fits"
    assert all(column.description for column in table.itercols())


@pytest.mark.parametrize(
    ("file_format", "ending", "unit"),
    [("csv", "csv", None), ("ecsv", "ecsv", units.DN), ("votable", "vot", units.adu)],
)
def test_tables_are_read_back(tmp_path: Path, file_format: str, ending: str, unit: units.Unit | None) -> None:
    path = write_astropy(tmp_path / f"events.{ending}", events(), file_format)
    known = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "votable": "votable"}[file_format]
    table = Table.read(path, format=known)
    assert table.colnames == list(events().columns)
    assert [str(kind) for kind in table["type"]] == ["cosmic_ray", "telegraph_noise", "snowball"]
    assert table["amplitude"].unit == unit
    size = np.ma.filled(np.ma.asarray(table["amplitude"]), np.nan)
    np.testing.assert_array_equal(size, [100.5, -20.0, np.nan])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="format 'xls' is not known: choose one of csv, votable, ecsv"):
        write_astropy(tmp_path / "events.xls", events(), "xls")
