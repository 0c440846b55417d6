"""Ramps beside which a network is asked: the memory that a plan counts for it is what that takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fmbdask.store.run.items import Item
from fmbdask.survey.config import read_config
from fmbdask.survey.pipelines import make

pytest.importorskip("torch", reason="networks need torch")

FRAMES, EDGE = 120, 256
#: Reduces an exposure in a process of its own, and prints by how much its anonymous memory grew at most.
REDUCES = f"""
import threading, time
import numpy as np, dask
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detect import finish, prepare_all
from fmbdask.ramps.blocks import search
from fmbdask.ramps.detector import as_ramp, describe
from fmbdask.ramps.sample import read
from fmbdask.ramps.simulation import simulate

def held():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

ramp = as_ramp(simulate(shape=({FRAMES}, {EDGE}, {EDGE}), seed=1)[0])
detector, config = describe(ramp), DetectionConfig(model="small")
with dask.config.set(scheduler="synchronous"):
    prepared = prepare_all(ramp, detector, config)
    results = search(ramp, prepared)
before, seen, over = held(), [0], threading.Event()
watch = threading.Thread(target=lambda: [seen.append(held()) for _ in iter(lambda: over.wait(0.005), True)])
watch.start()
finish(results, prepared, detector, config, lambda region: np.ascontiguousarray(read(ramp, region)))
over.set()
watch.join()
print(max(seen) - before)
"""


def test_the_memory_of_a_network_is_counted(tmp_path: Path) -> None:
    item = Item(0, "x", "x.fits", shape=(1, FRAMES, EDGE, EDGE), dtype="uint16", edge=128)

    def reduction(**detection: object) -> int:
        config = read_config({"output": str(tmp_path), "detection": detection})
        return make(config).stages[0].memory(item).reduce

    alone, asked = reduction(), reduction(model="small")
    assert reduction(model="small", model_everywhere=True) > asked
    seen = subprocess.run([sys.executable, "-c", REDUCES], capture_output=True, text=True, check=True)
    took = int(seen.stdout.split()[-1])
    assert 0.4 * (asked - alone) < took < asked - alone
