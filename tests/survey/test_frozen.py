"""A worker that was frozen while another coordinator took over, and thaws: it stops and publishes nothing."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.journal import read_journal
from fmbdask.store.run.units import PREPARE, REDUCE

from .small import SmallRun

ROOT = Path(__file__).resolve().parents[2]
#: Waits in one region until it is told to go on.
WORKER = """
import json, pickle, sys
from fmbdask.survey.worker.task import run_task
from tests.survey.small import SmallPipeline, SmallStage, install

def hook(item, region):
    if region == int(sys.argv[2]):
        print("here", flush=True)
        sys.stdin.readline()

install(SmallPipeline([SmallStage(hook=hook)]))
with open(sys.argv[1], "rb") as file:
    result = run_task(pickle.load(file))
print(json.dumps([[unit.region for unit in result.left], result.why_left]))
"""


@pytest.mark.parametrize(
    ("region", "left"), [(1, [2, 3, REDUCE]), (REDUCE, [REDUCE])], ids=["region", "reduction"]
)
def test_a_thawed_worker_stops(tmp_path: Path, region: int, left: list[int]) -> None:
    run = SmallRun(tmp_path / "run")
    (tmp_path / "task").write_bytes(pickle.dumps(run.task(run.units())))
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, tmp_path / "task", str(region)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "here\n"
        worker.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 30
        while Path(f"/proc/{worker.pid}/stat").read_text().split()[2] != "T":
            assert time.monotonic() < deadline
        run.reign.release()
        acquire(run.folder.epochs).release()
        worker.send_signal(signal.SIGCONT)
        out, _ = worker.communicate("\n", timeout=60)
    assert json.loads(out) == [left, "superseded"]
    ended = [r.unit.region for p in run.folder.journal.rglob("*.jsonl") for r in read_journal(p)[0] if r.part]
    assert ended == [r for r in (PREPARE, 0, 1, 2, 3) if r not in left]
    assert list(run.folder.products.iterdir()) == []
