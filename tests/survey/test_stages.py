"""Stages that follow one another: each begins with the product of the one before, and anew with a new one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from fmbdask.store.run.units import REDUCE, WHOLE_RUN, Unit
from fmbdask.survey.running.run import add, resume, run

from .whole import executions, exposure, files, nothing_done_again, planned, records

BOTH = f"{Path(__file__).with_name('stages.py')}:both"
REGIONS = 4


def test_a_stage_begins_when_the_one_before_has_ended_and_anew_with_a_new_product(tmp_path: Path) -> None:
    inputs = [exposure(tmp_path / f"x{i}.fits", i) for i in range(4)]
    path = tmp_path / "run"
    assert run(planned(inputs[:3], path, pipeline=BOTH), cluster="threads", workers=2).complete
    assert set(executions(path).values()) == {1}
    first = [r.time for r in records(path) if r.unit == Unit(0, WHOLE_RUN, REDUCE) and r.kind == "ended"]
    assert min(r.time for r in records(path) if r.kind == "started" and r.unit.stage == 1) >= first[0]
    made = xr.open_zarr(path / "products" / "excess" / "x1" / "products.zarr", consolidated=False)
    assert float(made["level"].min()) > 0
    assert np.isfinite(made["level"]).all()

    assert add(path, inputs) == 1
    assert resume(path, cluster="threads", workers=2).complete
    nothing_done_again(path)
    times = executions(path)
    for item in range(3):
        assert {times[Unit(0, item, r)] for r in range(REGIONS)} == {1}
        assert {times[Unit(1, item, r)] for r in range(REGIONS)} == {2}  # it read what has changed
    assert run(planned(inputs, tmp_path / "other", pipeline=BOTH), cluster="threads", workers=1).complete
    assert files(path) == files(tmp_path / "other")
    before = executions(path)
    assert resume(path, cluster="threads").complete
    assert executions(path) == before
