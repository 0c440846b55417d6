"""fmbdask on one exposure as it was read out: ``python run_fmbdask.py JOB.json``.

Leaves ``<exposure>_<name>_events.parquet`` and ``_mask.npy`` for each exposure.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import dask
import numpy as np
import xarray as xr
from meter import measured, memory, read_job, write_result  # type: ignore[import-not-found]

from fmbdask.ramps.detect import detect
from fmbdask.ramps.simulation import simulate


def main() -> None:
    """Do one job."""
    job = read_job(sys.argv[1])
    folder = Path(job["folder"])
    dask.config.set(scheduler="synchronous")  # one core, as the others
    small, _ = simulate(shape=(30, 64, 64), seed=1)
    detect(small)  # loads the compiled kernels, as importing loads those of the others
    base = memory("VmRSS")
    results = []
    for exposure in job["exposures"]:
        attrs = json.loads((folder / f"{exposure}_attrs.json").read_text())
        ramp = xr.DataArray(np.load(folder / f"{exposure}_raw.npy"), dims=("frame", "y", "x"), attrs=attrs)
        found, numbers = measured(partial(detect, ramp), base)
        results.append(numbers)
        start = folder / f"{exposure}_{job['name']}"
        found.events.to_parquet(f"{start}_events.parquet")
        np.save(f"{start}_mask.npy", found.maps["mask"].values[0])
    write_result(job, results[0] | {"version": version("fmbdask"), "note": ""})


if __name__ == "__main__":
    main()
