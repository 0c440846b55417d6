"""The flagged ramp in the layout of the JWST pipeline, fitted by the pipeline's own ramp fit (stcal)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from fmbdask.ramps.simulation import Exposure, SimulationConfig, plan_exposure
from fmbdask.survey.exposures.export import Exports
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.exposures.work import detect_exposure

pytest.importorskip("stcal", reason="stcal is not installed: pip install stcal to compare")

JUMP = 4
FLAGS = {
    "GOOD": 0, "DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": JUMP, "NO_GAIN_VALUE": 8, "PERSISTENCE": 32,
    "CHARGELOSS": 128, "UNRELIABLE_SLOPE": 2**24, "REFERENCE_PIXEL": 2**31,
}  # fmt: skip
SEED = 5


def configuration() -> SimulationConfig:
    """Exposures whose true slope is defined: nothing that bends a ramp."""
    config = SimulationConfig().resized(60, 128, 128)
    off = {"nonlinearity": None, "persistence": None, "settling": None, "ipc": None}
    effects = config.effects.model_copy(update=off)
    return config.model_copy(update={"effects": effects, "cosmic_ray_per_exp_range": (150, 150)})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flagged ramp of a simulated exposure."""
    folder = tmp_path_factory.mktemp("stcal")
    (path,) = simulate_survey(configuration(), folder, seed=SEED, workers=1)
    result = detect_exposure(path, folder / "out", exports=Exports(groupdq=True))
    return result / "h2rg_0000_ramp.fits"


def own_jumps(
    data: NDArray[np.float32], flags: NDArray[np.uint8], gain: float, noise: float
) -> NDArray[np.uint8]:
    """Flags of stcal's jump step with the settings of the JWST pipeline."""
    from stcal.jump.jump import detect_jumps_data
    from stcal.jump.jump_class import JumpData

    shape = data.shape[-2:]
    job = JumpData(
        gain2d=np.full(shape, gain, np.float32),
        rnoise2d=np.full(shape, noise / gain * np.sqrt(2), np.float32),
        dqflags=FLAGS,
    )
    job.nframes, job.dt_group, job.n_reads_groupdiff = 1, np.ones(1), np.full(1, 2)
    job.init_arrays_from_arrays(data.copy(), flags.copy(), np.zeros(shape, np.uint32))
    job.set_detection_settings(4.0, 6.0, 5.0, 1000, 10, True)
    job.max_cores = "none"
    found: NDArray[np.uint8] = detect_jumps_data(job)[0]
    return found


def slopes(
    data: NDArray[np.float32], flags: NDArray[np.uint8], header: Any, gain: float, noise: float
) -> NDArray[np.float32]:
    """Slopes of stcal's ramp fit [DN/s]."""
    from stcal.ramp_fitting.ramp_fit import ramp_fit_data
    from stcal.ramp_fitting.ramp_fit_class import RampData

    shape = data.shape[-2:]
    job = RampData()
    job.algorithm = "OLS_C"
    pixels = np.zeros(shape, np.uint32)
    job.set_arrays(data.copy(), flags.copy(), pixels, np.zeros(shape, np.float32))
    job.set_meta("NIRCAM", header["TFRAME"], header["TGROUP"], header["GROUPGAP"], header["NFRAMES"], 0)
    job.set_dqflags(FLAGS)
    job.start_row, job.num_rows = 0, shape[0]
    variance = np.full(shape, noise / gain * np.sqrt(2), np.float32)
    image = ramp_fit_data(job, False, variance, np.full(shape, gain, np.float32), "OLS_C", "optimal", "none")[
        0
    ]
    return np.asarray(image["slope"] if isinstance(image, dict) else image[0])


def spread(values: NDArray[np.floating]) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def test_slopes_are_better_than_with_the_pipelines_own_jump_step(exported: Path) -> None:
    config = configuration()
    plan = plan_exposure(config, Exposure(SEED, 0, 0, False, 0), "h2rg_0000")
    truth = plan.maps(0, config.image_shape[0]).rate / config.frame_time
    with fits.open(exported) as file:
        header = file[0].header
        data, flags = file["SCI"].data.astype(np.float32), file["GROUPDQ"].data
    gain, noise = header["GAIN"], header["RDNOISE"]
    without = flags & ~np.uint8(JUMP)
    theirs = own_jumps(data, without, gain, noise)
    errors = {
        name: slopes(data, used, header, gain, noise) * gain - truth
        for name, used in (("ours", flags), ("theirs", theirs))
    }
    active = np.zeros(truth.shape, bool)
    active[4:-4, 4:-4] = True
    hit = active & ((flags[0] & JUMP) > 0).any(axis=0)
    assert np.isfinite(errors["ours"][active]).all()
    everywhere = {name: spread(error[active]) for name, error in errors.items()}
    assert everywhere["ours"] < everywhere["theirs"]
    outliers = {name: float(np.sqrt(np.mean(error[active] ** 2))) for name, error in errors.items()}
    assert outliers["ours"] < 0.85 * outliers["theirs"]
    at_hits = {name: float(np.sqrt(np.mean(error[hit] ** 2))) for name, error in errors.items()}
    assert at_hits["ours"] < 0.6 * at_hits["theirs"]
    # a pixel that was hit is nearly as good as one that was not
    assert at_hits["ours"] < 1.4 * everywhere["ours"]
