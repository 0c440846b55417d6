"""A Slurm for the tests of this folder, and surveys small enough to be broken on it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fmbdask.cluster.slurm import job_name
from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.journal import read_journal
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import Record, Unit

from .minicluster import MiniSlurm, why_not

ROOT = Path(__file__).resolve().parents[2]
EXPOSURES, SHAPE, EDGE = 6, (4, 64, 64), 32

#: The largest value of each pixel; a region waits as long as a file is there, or for some time.
PIPELINE = """
import os
import time

import numpy as np

import fmbdask


@fmbdask.survey.pipeline(
    outputs={"peak": {"dims": ("y", "x"), "dtype": "float32", "unit": "DN"}}, memory="10MB"
)
def peak(region, gate="", seconds=0.0):
    time.sleep(seconds)
    while gate and os.path.exists(gate):
        time.sleep(0.05)
    return {"peak": region.isel(integration=0).max("frame").astype(np.float32)}


@fmbdask.survey.pipeline(
    outputs={"count": {"dims": ("y", "x"), "dtype": "float32", "unit": "DN"}},
    memory="10MB",
    resources={"GPU": 1},
)
def peak_on_gpu(region):
    return {"count": region.isel(integration=0).max("frame").astype(np.float32)}


both = [peak, peak_on_gpu]
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here wants Slurm."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def slurm() -> Iterator[MiniSlurm]:
    """A cluster of four nodes."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="mini-slurm-"))
    cluster = MiniSlurm(folder)
    try:
        cluster.up()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])
            yield cluster
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def nodes(slurm: MiniSlurm) -> Iterator[MiniSlurm]:
    """The cluster with all nodes up and idle, before and after the test."""
    slurm.wait_idle()
    yield slurm
    for job in slurm.client("squeue", "-h", "-o", "%i").split():
        slurm.client("scancel", job)
    slurm.mend()
    slurm.wait_idle()


@dataclass
class Survey:
    """A survey in a folder, run through the command line."""

    folder: Path
    slurm: MiniSlurm
    running: list[subprocess.Popen[str]] = field(default_factory=list)
    heard: int = 0

    @property
    def run(self) -> RunFolder:
        """Its run."""
        return RunFolder(self.folder / "run")

    @property
    def gate(self) -> Path:
        """The file that regions wait behind."""
        return self.folder / "gate"

    def start_gated(self, site: Path) -> subprocess.Popen[str]:
        """Plan a survey and start its run, whose regions then wait until the gate is opened."""
        config = self.configure(options={"gate": str(self.gate)})
        self.call("plan", config, "--cluster", site)
        self.gate.touch()
        return self.start("run", config, "--cluster", site)

    @property
    def job_name(self) -> str:
        """Name of its worker jobs."""
        return job_name(self.run.logs)

    def site(self, name: str = "site.yaml", **settings: Any) -> Path:
        """Write a file of the cluster."""
        values: dict[str, Any] = {
            "kind": "slurm",
            "workers": 3,
            "queue": "spread",
            "interface": "eth0",
            "scheduler_interface": self.slurm.bridge,
            "walltime": "00:10:00",
            "python": sys.executable,
            "environment": {"PYTHONWARNINGS": "ignore"},
            "prologue": [f"export PATH={Path(sys.executable).parent}:$PATH"],
        }
        path = self.folder / name
        path.write_text(yaml.safe_dump(values | settings))
        return path

    def configure(self, function: str = "peak", output: str = "run", **settings: Any) -> Path:
        """Write the configuration of the survey, and its inputs."""
        (self.folder / "data").mkdir(exist_ok=True)
        (self.folder / "pipeline.py").write_text(PIPELINE)
        generator = np.random.default_rng(5)
        for index in range(EXPOSURES):
            counts = generator.integers(0, 60000, SHAPE, dtype=np.uint16)
            np.save(self.folder / "data" / f"exposure {index}.npy", counts)
        values = {
            "pipeline": f"{self.folder}/pipeline.py:{function}",
            "inputs": [f"{self.folder}/data/*.npy"],
            "output": str(self.folder / output),
            "edge": EDGE,
            "exposure": {"gain": 1.0},
            "span_seconds": 0.001,  # a task for each region
            "attempts": 10,
            "region_deadline": 600,
        }
        path = self.folder / f"{output}.yaml"
        path.write_text(yaml.safe_dump(values | settings))
        return path

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        """Start a command of `fmbdask survey`."""
        command = [sys.executable, "-m", "fmbdask", "survey", *map(str, words)]
        log = (self.folder / f"{words[0]}-{len(self.running)}.log").open("w")
        process = subprocess.Popen(
            command, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.running.append(process)
        return process

    def said(self) -> str:
        """What all commands have printed."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("*-*.log")))

    def ends(self, process: subprocess.Popen[str], seconds: float = 180) -> int:
        """Wait for the end of a command."""
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not in time: {self.said()}\n{self.notes()}") from None

    def call(self, *words: str | Path, status: int = 0) -> None:
        """Run a command to its end."""
        process = self.start(*words)
        assert self.ends(process) == status, self.said()

    def records(self) -> list[Record]:
        """All records of the run."""
        return [r for path in sorted(self.run.journal.glob("*/*.jsonl")) for r in read_journal(path)[0]]

    def notes(self) -> list[str]:
        """What the journal says has happened."""
        return [record.note for record in self.records() if record.kind == "event"]

    def in_hand(self) -> set[Unit]:
        """Units of which the last that is known is that they started."""
        last = {record.unit: record.kind for record in sorted(self.records(), key=lambda each: each.time)}
        return {unit for unit, kind in last.items() if kind == "started"}

    def hosts(self) -> list[str]:
        """Node of each worker job that runs."""
        return self.slurm.client("squeue", "-h", "-t", "R", "-n", self.job_name, "-o", "%N").split()

    def jobs(self) -> list[str]:
        """Worker jobs that run, wait or are ending."""
        return self.slurm.client("squeue", "-h", "-n", self.job_name, "-o", "%i").split()

    def wait(self, condition: Callable[[], Any], seconds: float = 90) -> Any:
        """Poll until something is true; says what the run said if it never is."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"not in time: {self.said()}\n{self.notes()}"
            time.sleep(0.2)
        return found

    def happens(self, words: str, seconds: float = 90) -> str:
        """Wait until the journal says something that it had not said before the last time."""
        note = self.wait(lambda: [n for n in self.notes()[self.heard :] if words in n], seconds)[0]
        self.heard = len(self.notes())
        return str(note)

    def gate_workers(self, count: int) -> None:
        """Wait until so many worker jobs run, and as many regions wait at the gate."""
        self.wait(lambda: len(self.hosts()) == count and len(self.in_hand()) >= count)

    def check_complete(self, once: bool = False) -> None:
        """Every exposure is there with the right bits, and nothing that was marked was done again."""
        products = sorted(path.name for path in self.run.products.iterdir())
        assert len(products) == EXPOSURES, (products, self.notes())
        import zarr

        for index in range(EXPOSURES):
            counts = np.load(self.folder / "data" / f"exposure {index}.npy")
            [product] = [self.run.products / name for name in products if name.endswith(str(index))]
            peak = zarr.open(product / "products.zarr", mode="r")["peak"][:]
            np.testing.assert_array_equal(peak, counts.max(0).astype(np.float32))
        ended = Counter(record.unit for record in self.records() if record.kind == "ended")
        assert set(ended.values()) == {1}
        with Ledger.snapshot(self.run) as ledger:
            assert not ledger.failures()
        if once:
            started = [record.unit for record in self.records() if record.kind == "started"]
            assert len(started) == len(set(started))


@contextmanager
def made_survey(nodes: MiniSlurm) -> Iterator[Survey]:
    """A survey in a folder that is quick to sync and whose name is not quite plain; what it started ends."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="it's a run ", dir=memory if memory.is_dir() else None))
    made = Survey(folder, nodes)
    try:
        yield made
    finally:
        for process in made.running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def survey(nodes: MiniSlurm) -> Iterator[Survey]:
    """A survey."""
    with made_survey(nodes) as made:
        yield made


@pytest.fixture
def another(nodes: MiniSlurm) -> Iterator[Survey]:
    """A survey beside the first."""
    with made_survey(nodes) as made:
        yield made
