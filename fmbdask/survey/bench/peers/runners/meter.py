"""CPU time and peak memory of one call, in any Python: this file knows only the standard library."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def memory(field: str) -> int:
    """Memory of this process [byte]: ``VmRSS`` now, ``VmHWM`` at its peak; 0 where nobody says."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    values = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(values[field].split()[0]) * 1024


def measured(call: Callable[[], Any], base: int) -> tuple[Any, dict[str, float]]:
    """Run ``call``; returns what it returns, and CPU seconds, wall seconds and peak bytes above ``base``."""
    cpu, wall = time.process_time(), time.perf_counter()
    result = call()
    return result, {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_bytes": memory("VmHWM") - base,
    }


def read_job(path: str) -> dict[str, Any]:
    """What is to be done; file names in it are relative to it."""
    job: dict[str, Any] = json.loads(Path(path).read_text())
    job["folder"] = str(Path(path).resolve().parent)
    return job


def write_result(job: dict[str, Any], result: dict[str, Any]) -> None:
    """Leave the numbers beside the job."""
    (Path(job["folder"]) / f"{job['name']}_result.json").write_text(json.dumps(result))
