"""What `fmbdask survey plan` projects against what a run then takes, on ramps of several sizes and codecs.

    python benchmarks/projection.py [-o FOLDER] [--workers 2] [--quick] [--csv FILE]

Each case is planned and run on local workers. Wall time is that from the first unit to the last; the
projected one without the time that workers need to start. CPU time is that of the units' threads; memory the
largest anonymous memory of a worker process that any of its units saw. Ratios are projected over measured.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from fmbdask.store.run.folder import RunFolder
from fmbdask.store.run.ledger import Ledger
from fmbdask.survey.bench.settings import SETTINGS
from fmbdask.survey.exposures.simulate import simulate_survey
from fmbdask.survey.planning.plan import plan
from fmbdask.survey.planning.project import START
from fmbdask.survey.running.run import run

#: Frames, rows and columns, and number of exposures.
CASES = ((64, 512, 12), (128, 1024, 4), (300, 512, 6))
QUICK = ((16, 64, 2),)
SEED = 5


def exposures(folder: Path, frames: int, size: int, count: int, kind: str) -> list[Path]:
    """Exposures of a case, simulated where they are not there."""
    data = folder / f"{frames}x{size}.{kind}"
    paths = sorted(data.glob(f"h2rg_????.{kind}"))[:count]
    if len(paths) < count:
        config = SETTINGS["drift"].sized(frames, size, size, 0)
        paths = simulate_survey(
            config, data, end_index=count - 1, seed=SEED, file_format=kind, overwrite=True
        )
    return paths


def measure(folder: Path, paths: list[Path], workers: int) -> dict[str, float]:
    """Plan and run a survey of some exposures."""
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    made = plan({"inputs": [str(p) for p in paths], "output": str(out)}, workers=workers)
    found = run(made, cluster="local", workers=workers)
    with Ledger.snapshot(RunFolder(out)) as ledger:
        units = ledger.timings()
    if not found.complete or found.failed:
        raise SystemExit(found.describe())
    shutil.rmtree(out)
    p = made.projected
    wall = float(units["end"].max() - units["begin"].min())
    kinds = units["region"].map(lambda region: {-1: "prepare", -2: "reduce"}.get(region, "map"))
    cpu = units.groupby(kinds)["cpu"].sum()
    costs = made.calibration.costs(0, made.items[0])
    regions = made.items[0].regions[0]
    projected = {"prepare": costs.prepare, "map": regions * costs.region, "reduce": costs.reduce}
    return {
        "wall": wall,
        "wall_ratio": (p.wall_seconds - START["local"] - made.calibration.start) / wall,
        "cpu": float(units["cpu"].sum()),
        "cpu_ratio": p.seconds / float(units["cpu"].sum()),
        **{f"{kind}_ratio": len(paths) * value / cpu[kind] for kind, value in projected.items()},
        "memory": float(units["peak"].max()) / 1e6,
        "memory_ratio": p.worker_memory / float(units["peak"].max()),
    }


def main() -> None:
    """Measure all cases, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, help="folder of the exposures; a temporary one by default")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    folder = (options.out or Path(tempfile.mkdtemp())).absolute()
    rows = []
    for frames, size, count in QUICK if options.quick else CASES:
        for kind in ("fits", "zarr"):
            paths = exposures(folder, frames, size, count, kind)
            rows.append({"frames": frames, "size": size, "count": count, "format": kind})
            rows[-1] |= measure(folder, paths, options.workers)
            print(pd.DataFrame(rows[-1:]).to_string(index=False, float_format="%.2f"), flush=True)
    table = pd.DataFrame(rows)
    if options.csv:
        table.to_csv(options.csv, index=False)
    ratios = table[["wall_ratio", "cpu_ratio", "memory_ratio"]]
    print(f"{options.workers} workers; ratios from {ratios.min().min():.2f} to {ratios.max().max():.2f}")
    if options.out is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
