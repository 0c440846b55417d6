"""Whole runs for tests: small exposures, plans of them, and what must hold of every run that ended."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.journal import journals, read_journal
from fmbdask.store.run.units import Record, Unit
from fmbdask.survey.planning.calibrate import Calibration, Sample
from fmbdask.survey.planning.plan import Plan
from fmbdask.survey.planning.plan import plan as make_plan

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = f"{Path(__file__).with_name('medians.py')}:median"


def exposure(path: Path, seed: int, first: int = 0, *, frames: int = 6, edge: int = 64) -> Path:
    """Write a small exposure of noise; its first pixel is ``first`` in all frames."""
    data = np.random.default_rng(seed).integers(1000, 2000, (frames, edge, edge)).astype(np.uint16)
    if first:
        data[:, 0, 0] = first
    header = fits.Header({"GAIN": 1.0})
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    return path


def planned(inputs: Sequence[Path], output: Path, **settings: Any) -> Plan:
    """A plan whose costs are made up instead of measured."""
    config = {"pipeline": PIPELINE, "inputs": [str(p) for p in inputs], "output": str(output), "edge": 32}
    import fmbdask.survey.planning.plan  # noqa: F401

    module = sys.modules["fmbdask.survey.planning.plan"]
    known = Calibration(
        (Sample(0, ".fits uint16 3", 49152, 4096, 4, 0.001, 0.002, 0.005, 8 << 20, 4200, 4, 17000, 4),),
        200 << 20,
    )
    before, module.calibrate = module.calibrate, lambda *_, **__: known  # type: ignore[attr-defined]
    try:
        return make_plan(config | settings, workers=2)
    finally:
        module.calibrate = before  # type: ignore[attr-defined]


def elsewhere(plan: Plan, output: Path) -> Plan:
    """The same plan with another output."""
    return replace(plan, config=plan.config.model_copy(update={"output": str(output)}))


def files(run: Path) -> Mapping[str, bytes]:
    """Every file of the results of a run: catalogue and products."""
    found = [p for name in ("catalog", "products") for p in (run / name).rglob("*") if p.is_file()]
    return {str(p.relative_to(run)): p.read_bytes() for p in sorted(found)}


def records(run: Path) -> list[Record]:
    """All records of all journals, in the order of their times."""
    folder = RunFolder(run)
    found = [r for name, _ in journals(folder.journal) for r in read_journal(folder.journal / name)[0]]
    return sorted(found, key=lambda r: r.time)


def executions(run: Path) -> dict[Unit, int]:
    """How often each unit was started."""
    count: dict[Unit, int] = defaultdict(int)
    for record in records(run):
        count[record.unit] += record.kind == "started"
    return {unit: n for unit, n in count.items() if n}


def nothing_done_again(run: Path) -> None:
    """Whatever ended was not started again, unless its item was begun anew."""
    ended: set[tuple[Unit, int]] = set()
    for record in records(run):
        key = record.unit, record.generation
        if record.kind == "started":
            assert key not in ended, f"{record.unit} was done again"
        elif record.kind == "ended":
            ended.add(key)
        elif record.kind == "void":
            ended -= {k for k in ended if k[0] == record.unit}
