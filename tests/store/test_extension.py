"""Which of several ramps in one file: `extension`, from the command line too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from fmbdask.cli.app import app
from fmbdask.errors import InputError
from fmbdask.store.ramps import open_ramp

from .made_up import ramp, write_frames, write_jwst


@pytest.fixture
def several(tmp_path: Path) -> Path:
    images = [fits.ImageHDU(ramp((8, 20, 20), seed=s), name=name) for s, name in ((1, "NIGHT"), (2, "DAY"))]
    fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "x.fits")
    return tmp_path / "x.fits"


@pytest.mark.parametrize(("extension", "seed"), [(1, 1), ("2", 2), ("DAY", 2), ("night", 1)])
def test_a_cube_by_number_or_name(several: Path, extension: int | str, seed: int) -> None:
    with pytest.raises(
        InputError, match=r"several cubes \(extensions 1 NIGHT, 2 DAY\): give .* as extension"
    ):
        open_ramp(several)
    opened = open_ramp(several, extension=extension)
    np.testing.assert_array_equal(opened.values[0], ramp((8, 20, 20), seed=seed))


def test_an_extension_that_is_not_there(several: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.fits has no image NOON \(but extensions 1 NIGHT, 2 DAY\)"):
        open_ramp(several, extension="NOON")
    np.save(tmp_path / "x.npy", ramp())
    with pytest.raises(
        InputError, match=r"x\.npy holds one ramp, it has no extension 1: leave extension out"
    ):
        open_ramp(tmp_path / "x.npy", extension=1)


def test_frames_by_name(tmp_path: Path) -> None:
    frames = ramp((10, 9, 8))
    path = write_frames(tmp_path / "x.fits", list(frames), ["READ", "WEIGHT"] * 5)
    with pytest.raises(InputError, match="have different names"):
        open_ramp(path)
    np.testing.assert_array_equal(open_ramp(path, extension="READ").values[0], frames[::2])


def test_sci_is_read_with_its_flags(tmp_path: Path) -> None:
    flags = np.full((1, 6, 9, 8), 2, np.uint8)
    path = write_jwst(tmp_path / "x.fits", ramp((1, 6, 9, 8)), {"GROUPDQ": flags})
    np.testing.assert_array_equal(open_ramp(path, extension="SCI").flags, flags)


def test_from_the_command_line(several: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ingested = CliRunner().invoke(
        app, ["ramps", "ingest", str(several), "-o", str(out), "--extension", "DAY"]
    )
    assert ingested.exit_code == 0, ingested.output
    np.testing.assert_array_equal(open_ramp(out / "x.zarr").values[0], ramp((8, 20, 20), seed=2))
    refused = CliRunner().invoke(app, ["ramps", "detect", str(several), "-o", str(out), "--extension", "3"])
    assert refused.exit_code == 1
    assert "has no image 3" in refused.output
