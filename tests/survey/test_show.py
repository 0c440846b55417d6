"""Figures and exports of exposures with several integrations, and of those opened with overrides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from fmbdask.errors import InputError
from fmbdask.ramps.simulation import SimulationConfig
from fmbdask.survey.exposures.export import Exports
from fmbdask.survey.exposures.show import ramp_of, read_result, show_result
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.exposures.work import detect_exposure

MIRI = "ramps/MIRI_5582_89_S_20180308-010230_SCE1_pipe.fits"


def test_several_integrations_of_a_real_exposure(real_data: Path, tmp_path: Path) -> None:
    result = detect_exposure(
        real_data / MIRI, tmp_path, name="miri", exports=Exports(numpy=True, groupdq=True)
    )
    assert np.load(result / "prediction_mask.npy").shape == (5, 64, 72)
    assert np.load(result / "miri_processed.npy", mmap_mode="r").shape == (5, 50, 64, 72)
    with fits.open(result / "miri_ramp.fits") as file:
        header = file[0].header
        assert (header["INSTRUME"], header["READPATT"], header["TGROUP"]) == ("MIRI", "FAST", 0.085)
        assert (header["NINTS"], header["NGROUPS"]) == (5, 50)
        assert (file["PIXELDQ"].data[:, :4] == 2**31).all()
        # the last read of every integration stands out, and is not to be used
        assert (file["GROUPDQ"].data[:, -1] & 1).all()
    assert [path.name for path in show_result(result)] == ["overview.png", "counts.png", "gallery.png"]


def test_the_exposure_is_opened_as_it_was_for_detection(tmp_path: Path) -> None:
    (path,) = simulate_survey(SimulationConfig().resized(16, 48, 48), tmp_path, seed=2, workers=1)
    result = read_result(detect_exposure(path, tmp_path / "out", overrides={"gain": 3.5}))
    ramp = ramp_of(result, None)
    assert ramp is not None
    assert ramp.attrs["gain"] == 3.5
    moved = path.rename(tmp_path / "moved.fits")
    assert ramp_of(result, None) is None
    named = ramp_of(result, moved)
    assert named is not None
    assert named.attrs["gain"] == 3.5


def test_a_result_without_steps_is_refused(tmp_path: Path) -> None:
    (path,) = simulate_survey(SimulationConfig().resized(16, 48, 48), tmp_path, seed=2, workers=1)
    folder = detect_exposure(path, tmp_path / "out")
    (folder / "steps.parquet").unlink()
    with pytest.raises(InputError, match=r"steps.parquet is missing: name a folder"):
        read_result(folder)
