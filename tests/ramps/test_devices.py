"""The device of the first pass: how it is found, and that detections do not depend on it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fmbdask_kernels.cupy import card, streaming

from fmbdask.errors import ConfigError
from fmbdask.ramps import detect, simulate
from fmbdask.ramps.devices import find_device

from ..kernels.cupy.host import StreamingHost, host_card


def test_devices_are_found_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "missing", lambda: None)
    assert [find_device(name) for name in ("cpu", "gpu", "auto")] == ["cpu", "gpu", "gpu"]
    monkeypatch.setattr(card, "missing", lambda: "CuPy sees no GPU")
    assert [find_device(name) for name in ("cpu", "auto")] == ["cpu", "cpu"]
    with pytest.raises(ConfigError, match="device gpu was asked for and CuPy sees no GPU here: install"):
        find_device("gpu")
    with pytest.raises(ConfigError, match="there is no device tpu: give one of cpu, gpu, auto"):
        find_device("tpu")


def test_detection_does_not_depend_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    ramp, _ = simulate(shape=(30, 64, 64), seed=5)
    ramp = ramp.chunk({"y": 40, "x": 64})
    lanes = streaming.Lanes(StreamingHost(host_card()))
    blocks: list[Any] = []

    def first_pass(block: streaming.Block) -> Any:
        blocks.append(block.data.shape)
        return lanes.run(block)

    here = detect(ramp, features=True)
    assert not blocks
    monkeypatch.setattr(card, "missing", lambda: None)
    monkeypatch.setattr(streaming, "first_pass", first_pass)
    there = detect(ramp, features=True, device="gpu")
    assert sorted(blocks) == [(30, 24, 64), (30, 40, 64)]
    assert len(here.events) > 0
    for column in ("type", "first_frame"):
        np.testing.assert_array_equal(here.events[column], there.events[column])
    for column in ("y", "x"):
        np.testing.assert_allclose(here.events[column], there.events[column], rtol=1e-6)
    for name in ("mask", "first_appearance", "persistence_count", "median_difference", "step_frame"):
        np.testing.assert_array_equal(here.maps[name], there.maps[name])
    np.testing.assert_allclose(here.maps["rate"], there.maps["rate"], rtol=1e-4, atol=1e-4)
