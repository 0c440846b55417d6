"""stcal on one corrected exposure: ``python run_stcal.py JOB.json``, where stcal is installed.

``method`` is ``two_point`` (the jump step, threshold 4.0) or ``likely`` (the likelihood ramp fit, 4.5).
Leaves ``<exposure>_<name>_flags.npy``, (T, ny, nx) bool: the reads flagged as the first of a new level.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from meter import measured, memory, read_job, write_result  # type: ignore[import-not-found]

#: Flags as the JWST pipeline names them.
FLAGS = {
    "GOOD": 0, "DO_NOT_USE": 1, "SATURATED": 2, "JUMP_DET": 4, "NO_GAIN_VALUE": 8, "PERSISTENCE": 32,
    "CHARGELOSS": 128, "UNRELIABLE_SLOPE": 2**24, "REFERENCE_PIXEL": 2**31,
}  # fmt: skip
JUMP = FLAGS["JUMP_DET"]
TWO_POINT, LIKELY = 4.0, 4.5


def two_point(data: Any, flags: Any, noise: Any, gain: float) -> Any:
    """Flags of the jump step with the defaults of the JWST pipeline."""
    jump = import_module("stcal.jump.jump")
    job = import_module("stcal.jump.jump_class").JumpData(
        gain2d=np.full(noise.shape, gain, np.float32), rnoise2d=noise, dqflags=FLAGS
    )
    job.nframes, job.dt_group, job.n_reads_groupdiff = 1, np.ones(1), np.full(1, 2)
    job.init_arrays_from_arrays(data, flags, np.zeros(noise.shape, np.uint32))
    # two-point thresholds of ten or more, three and two differences; neighbours of jumps of 10 to 1000 sigma
    job.set_detection_settings(TWO_POINT, 6.0, 5.0, 1000, 10, True)
    job.max_cores = "none"
    job.expand_large_events = True
    job.min_jump_area, job.min_sat_area, job.edge_size = 15.0, 1, 25
    job.mask_persist_grps_next_int = False
    return jump.detect_jumps_data(job)[0]


def likely(data: Any, flags: Any, noise: Any, gain: float) -> Any:
    """Flags of the likelihood ramp fit."""
    fit = import_module("stcal.ramp_fitting.ramp_fit")
    job = import_module("stcal.ramp_fitting.ramp_fit_class").RampData()
    job.algorithm = "LIKELY"
    shape = noise.shape
    job.set_arrays(data, flags, np.zeros(shape, np.uint32), np.zeros(shape, np.float32))
    job.set_meta(name="NIRCAM", frame_time=1.0, group_time=1.0, groupgap=0, nframes=1, drop_frames1=0)
    job.set_dqflags(FLAGS)
    job.start_row, job.num_rows = 0, shape[0]
    job.rejection_threshold = LIKELY
    gains = np.full(shape, gain, np.float32)
    fit.ramp_fit_data(job, False, noise, gains, "LIKELY", "optimal", "none")
    return job.groupdq


def main() -> None:
    """Do one job."""
    job = read_job(sys.argv[1])
    folder = Path(job["folder"])
    method = {"two_point": two_point, "likely": likely}[job["method"]]
    for name in ("stcal.jump.jump", "stcal.ramp_fitting.ramp_fit"):
        import_module(name)
    base = memory("VmRSS")
    results = []
    for exposure in job["exposures"]:
        data = np.load(folder / f"{exposure}_cube.npy")[None]
        flags = np.load(folder / f"{exposure}_flags.npy")[None]
        # both steps want the noise of a difference of two reads [DN]
        noise = np.float32(np.sqrt(2)) * np.load(folder / f"{exposure}_noise.npy")
        found, numbers = measured(partial(method, data, flags, noise, job["gain"]), base)
        results.append(numbers)
        np.save(folder / f"{exposure}_{job['name']}_flags.npy", (found[0] & JUMP) > 0)
    write_result(job, results[0] | {"version": version("stcal"), "note": ""})


if __name__ == "__main__":
    main()
