"""The same exposures on the same Slurm: as a survey, and as a job array of `fmbdask ramps detect`.

    python benchmarks/job_array.py [-o FOLDER] [--exposures 16] [--quick]

Brings up the small Slurm of the tests, so it wants root on Debian. Both ways have as many processes of one
thread side by side. Each is done twice: left alone, and with a node that runs some of it killed when a third
is done. Wall time is from the command to its last result, the survey's with catalogue and report; CPU time
is that of all processes on the nodes, of those of a killed node until its end, and of the survey's
coordinator.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.ledger import Ledger
from fmbdask.store.run.units import REDUCE
from fmbdask.survey.bench.settings import SETTINGS
from fmbdask.survey.exposures.simulate import simulate_survey

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.slurm.minicluster import MiniSlurm, why_not

SEED = 5
#: A node is killed when this share of the exposures is done.
SHARE = 1 / 3
#: How often it is looked how far things are [s].
TICK = 0.5


class Meter:
    """CPU time of all processes on the nodes since it was made [s]."""

    def __init__(self, slurm: MiniSlurm) -> None:
        self.slurm = slurm
        self._seen: dict[str, float] = {}
        self._lost = 0.0
        self._begin = self._look()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(TICK):
            self._look()

    def _look(self) -> float:
        for node in self.slurm.nodes:
            with suppress(OSError, IndexError, TimeoutError):
                now = sum(map(cpu_of, self.slurm.pids(node)))
                if now < self._seen.get(node, 0.0) / 2:  # it was killed and began anew
                    self._lost += self._seen[node]
                self._seen[node] = now
        return self._lost + sum(self._seen.values())

    def end(self) -> float:
        """Stop looking; the time in all."""
        self._stop.set()
        self._thread.join()
        return self._look() - self._begin


def cpu_of(pid: int) -> float:
    """CPU time of a process and its children that ended [s]; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def wait(slurm: MiniSlurm, over: Callable[[], bool], share: Callable[[], float], kill: bool) -> str:
    """Wait for an end; the node that was killed on the way."""
    killed = ""
    while not over():
        if kill and not killed and share() >= SHARE:
            hosts = slurm.client("squeue", "-h", "-t", "R", "-o", "%N").split()
            if hosts:
                killed = hosts[0]
                slurm.kill(killed)
        time.sleep(TICK)
    return killed


def as_array(slurm: MiniSlurm, paths: list[Path], out: Path, side: int, kill: bool) -> dict[str, Any]:
    """A job array, as its user would submit it."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "list").write_text("".join(f"{path}\n" for path in paths))
    meter, begin = Meter(slurm), time.monotonic()
    script = Path(__file__).with_suffix(".sbatch")
    job = slurm.client(
        "sbatch", "--parsable", "-p", "spread", f"--array=0-{len(paths) - 1}%{side}", f"--chdir={out}",
        str(script), str(out / "list"), str(out),
    ).strip()  # fmt: skip

    def done() -> list[Path]:
        return sorted(out.glob("*/detections.json"))

    killed = wait(
        slurm,
        lambda: not slurm.client("squeue", "-h", "-j", job).strip(),
        lambda: len(done()) / len(paths),
        kill,
    )
    last = max((path.stat().st_mtime for path in done()), default=0.0)
    wall = last - (time.time() - (time.monotonic() - begin))
    started = Counter((out / "started").read_text().split())
    return {
        "way": "job array", "node": killed or "-", "wall": wall, "cpu": meter.end(), "done": len(done()),
        "redone": f"{sum(n - 1 for n in started.values())} exposures",
    }  # fmt: skip


def as_survey(slurm: MiniSlurm, paths: list[Path], out: Path, side: int, kill: bool) -> dict[str, Any]:
    """A survey whose workers are jobs."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    site = {
        "kind": "slurm", "workers": side, "threads": 1, "queue": "spread", "interface": "eth0",
        "scheduler_interface": slurm.bridge, "walltime": "00:60:00", "python": sys.executable,
    }  # fmt: skip
    (out / "site.yaml").write_text(yaml.safe_dump(site))
    survey = {"inputs": [str(path) for path in paths], "output": str(out / "run"), "cluster": "site.yaml"}
    (out / "survey.yaml").write_text(yaml.safe_dump(survey))
    command = [sys.executable, "-m", "fmbdask", "survey"]
    subprocess.run([*command, "plan", "survey.yaml"], cwd=out, check=True, stdout=subprocess.DEVNULL)
    run = RunFolder(out / "run")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    meter, begin = Meter(slurm), time.monotonic()
    process = subprocess.Popen([*command, "run", "survey.yaml"], cwd=out, stdout=subprocess.DEVNULL)
    killed = wait(
        slurm,
        lambda: process.poll() is not None,
        lambda: len(list(run.products.glob("*/detections.json"))) / len(paths),
        kill,
    )
    wall = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with Ledger.snapshot(run) as ledger:
        again = [unit for unit, n in ledger.executions().items() if n > 1]
        done = len(ledger.done_counts(REDUCE)) - 1
    return {
        "way": "survey", "node": killed or "-", "wall": wall, "cpu": meter.end() + own, "done": done,
        "redone": f"{len(again)} units of {len({unit.item for unit in again})} exposures",
    }  # fmt: skip


def main() -> None:
    """Do both ways, alone and with a node killed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "-o", "--out", type=Path, help="folder, seen by all nodes; a temporary one by default"
    )
    parser.add_argument("--exposures", type=int, default=16)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--side", type=int, default=2, help="tasks, or workers, side by side")
    parser.add_argument("--quick", action="store_true", help="four small exposures")
    options = parser.parse_args()
    if reason := why_not():
        raise SystemExit(reason)
    count, frames, size = (4, 16, 64) if options.quick else (options.exposures, options.frames, options.size)
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    folder = (options.out or Path(tempfile.mkdtemp())).absolute()
    data = folder / "exposures"
    paths = sorted(data.glob("h2rg_????.fits"))[:count]
    if len(paths) < count:
        config = SETTINGS["drift"].sized(frames, size, size, 0)
        paths = simulate_survey(config, data, end_index=count - 1, seed=SEED, overwrite=True)
    slurm = MiniSlurm(folder / "slurm")
    rows = []
    try:
        slurm.up()
        os.environ |= slurm.environment
        for kill in (False, True):
            for way in (as_array, as_survey):
                rows.append(
                    {"exposures": count} | way(slurm, paths, folder / way.__name__, options.side, kill)
                )
                print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.1f"), flush=True)
                if rows[-1]["node"] != "-":
                    slurm.start(rows[-1]["node"])
                slurm.wait_idle()
    finally:
        slurm.down()
    print(pd.DataFrame(rows).to_string(index=False, float_format="%.1f"))
    if options.out is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
