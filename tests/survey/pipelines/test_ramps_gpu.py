"""Ramps whose first pass runs on a GPU: what the stage asks of workers, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fmbdask.errors import ConfigError
from fmbdask.store.run.items import Item
from fmbdask.survey.config import read_config
from fmbdask.survey.pipelines import make


def stage(folder: Path, **settings: Any) -> Any:
    """The stage of a configuration."""
    return make(read_config({"output": str(folder), **settings})).stages[0]


def test_a_gpu_is_asked_for_where_it_must_be(tmp_path: Path) -> None:
    assert stage(tmp_path).resources == {}
    assert stage(tmp_path, device="auto").resources == {}
    assert stage(tmp_path, device="gpu").resources == {"GPU": 1}


def test_pinned_buffers_are_counted(tmp_path: Path) -> None:
    item = Item(0, "x", "x.fits", shape=(1, 20, 256, 256), dtype="uint16", edge=64)
    here, there = (stage(tmp_path, device=d).memory(item) for d in ("cpu", "gpu"))
    # two lanes, counts and flags on the way there, planes and rates on the way back
    assert there.region - here.region == 2 * (20 * 64**2 * 3 + 100 * 64**2)
    assert (there.prepare, there.reduce) == (here.prepare, here.reduce)


def test_other_devices_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device"):
        stage(tmp_path, device="tpu")
