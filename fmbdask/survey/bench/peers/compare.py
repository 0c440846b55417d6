"""`bench peers`: the same exposures through this detector, stcal and ohana, each run in a fresh process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmbdask.ramps.corrected import corrected, group_flags
from fmbdask.ramps.detect import detect
from fmbdask.ramps.simulation import (
    Exposure,
    Score,
    SimulationConfig,
    Truth,
    make_exposure,
    match,
    plan_exposure,
)

from ..settings import FIRST_SEED, SETTINGS, Setting
from ..truth.judge import owners
from ..write import as_text, write_tables
from .environment import Peers, peer_environment, run
from .figure import peers_figure
from .grouping import events_of_flags, events_of_ohana

Report = Callable[[int, int, str], None]
Size = tuple[int, int, int]

RUNNERS = Path(__file__).parent / "runners"
SIZES: tuple[Size, ...] = ((100, 512, 512), (300, 256, 256))
QUICK_SIZES: tuple[Size, ...] = ((60, 128, 128),)
QUICK_SETTINGS = ("dark", "effects")
#: Every tool searches two exposures: one with events, which its costs are taken from, and one without.
EXPOSURES = ("events", "clean")
#: A search that takes longer is given up [s].
LIMIT = 3600.0
#: Bits of the flags that other tools are told: not to be used, saturated.
KNOWN = 3

HEADING = """\
The same simulated exposures through every tool. Found: share of the scored events; pure: share of the
detections that are right, for hits off telegraph pixels as well; clean_flagged: share of ramps with any flag
in an exposure without events. CPU seconds of the search alone; peak memory above the imports, with the input
[MB], and relative to the uint16 exposure.
stcal and ohana get the ramp after our reference-pixel, common-mode and row correction, our flags of saturated
and unsettled reads, and stcal the true noise of every pixel. Flagged reads of stcal that touch (26 neighbours
in frame, row and column) are one event, a snowball from 30 pixels and an axis ratio of 0.7 on, to which all
belongs that is within 3 of its radii and 6 frames."""


@dataclass(frozen=True)
class Tool:
    """A tool: name, script, method, and the Python that runs it."""

    name: str
    script: str
    method: str
    python: Path
    missing: str = ""


def tools(peers: Peers) -> tuple[Tool, ...]:
    """Every tool that is compared."""
    return (
        Tool("fmbdask", "run_fmbdask.py", "", Path(sys.executable)),
        Tool("stcal two-point 4.0", "run_stcal.py", "two_point", peers.python, peers.stcal),
        Tool("stcal LIKELY 4.5", "run_stcal.py", "likely", peers.python, peers.stcal),
        Tool("ohana 0.1.0", "run_ohana.py", "", peers.python, peers.ohana),
    )


def peers_files(
    out: Path, *, quick: bool = False, env: Path | None = None, report: Report | None = None
) -> tuple[str, list[Path]]:
    """Compare; write ``peers.txt``, ``peers_table.csv`` and ``peers.png``. Returns the text and the paths."""
    environment = peer_environment(env, report)
    names = QUICK_SETTINGS if quick else tuple(SETTINGS)
    settings = tuple(SETTINGS[name] for name in names)
    table = compare(tools(environment), settings, QUICK_SIZES if quick else SIZES, report)
    text = as_text({"table": (HEADING, table.drop(columns=["seed", "version", "wall_s"]))})
    paths = write_tables({"table": table}, text, out, "peers")
    paths.append(out / "peers.png")
    peers_figure(table).savefig(paths[-1])
    return text, paths


def compare(
    chosen: tuple[Tool, ...],
    settings: tuple[Setting, ...],
    sizes: tuple[Size, ...],
    report: Report | None = None,
) -> pd.DataFrame:
    """Run every tool on an exposure with events and on one without, of each setting and size.

    Returns
    -------
    DataFrame
        One row a setting, size and tool.
    """
    cases = [(size, setting) for size in sizes for setting in settings]
    rows = []
    for k, (size, setting) in enumerate(cases):
        with tempfile.TemporaryDirectory(prefix="fmbdask_peers_") as name:
            folder = Path(name)
            config = setting.sized(*size, 1)
            truth = lay_out(config, folder, EXPOSURES[0], baseline=False)
            lay_out(config, folder, EXPOSURES[1], baseline=True)
            for i, tool in enumerate(chosen):
                if report:
                    text = f"{tool.name}: {setting.name}, {size[0]} frames"
                    report(k * len(chosen) + i + 1, len(cases) * len(chosen), text)
                label = {"setting": setting.name, "frames": size[0], "seed": FIRST_SEED, "tool": tool.name}
                rows.append(label | row_of(tool, folder, truth, config))
    table = pd.DataFrame(rows)
    return table[[*table.columns.drop("note"), "note"]]


def lay_out(config: SimulationConfig, folder: Path, name: str, *, baseline: bool) -> Truth:
    """Write one exposure: as it was read out, and as the other tools get it, without the reference border."""
    ramp, truth = make_exposure(config, seed=FIRST_SEED, baseline=baseline)
    plan = plan_exposure(config, Exposure(FIRST_SEED, 0, 0, baseline, 0), name)
    found = detect(ramp)
    inner = (slice(None), active(config), active(config))
    cube = corrected(ramp, found.prepared, fill=None).values[0][inner]
    flags = group_flags(ramp, found.prepared, found.steps.iloc[:0]).values[0][inner]
    np.save(folder / f"{name}_raw.npy", ramp.values[0])
    np.save(folder / f"{name}_cube.npy", np.ascontiguousarray(cube, np.float32))
    np.save(folder / f"{name}_flags.npy", np.ascontiguousarray(flags & np.uint8(KNOWN)))
    np.save(folder / f"{name}_used.npy", found.prepared[0].used)
    noise = plan.maps(0, config.image_shape[0]).noise[inner[1:]] / plan.gain
    np.save(folder / f"{name}_noise.npy", noise.astype(np.float32))
    # read noise is measured, as it is in files that do not tell it
    known = {key: value for key, value in ramp.attrs.items() if key != "read_noise"}
    (folder / f"{name}_attrs.json").write_text(json.dumps(known), encoding="utf-8")
    return truth


def active(config: SimulationConfig) -> slice:
    """Rows or columns inside the reference border."""
    return slice(config.border, -config.border or None)


def row_of(tool: Tool, folder: Path, truth: Truth, config: SimulationConfig) -> dict[str, Any]:
    """Scores and costs of one tool."""
    if tool.missing:
        return {"note": f"not installed: {tool.missing}"}
    own = f"{tool.script.removesuffix('.py')}_{tool.method}".rstrip("_")
    job = {
        "name": own,
        "exposures": EXPOSURES,
        "method": tool.method,
        "gain": next(iter(config.gain_library.values())),
    }
    path = folder / f"{own}.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    error = run([os.fspath(tool.python), os.fspath(RUNNERS / tool.script), os.fspath(path)], LIMIT)
    if error:
        return {"note": f"stopped: {error}"}
    numbers = json.loads((folder / f"{own}_result.json").read_text(encoding="utf-8"))
    events, _ = found_by(tool, folder, own, EXPOSURES[0], config)
    _, flagged = found_by(tool, folder, own, EXPOSURES[1], config)
    score = match(events, truth)
    row: dict[str, Any] = {}
    for kind, short in (("cosmic_ray", "hits"), ("telegraph_noise", "telegraph"), ("snowball", "snowballs")):
        row[f"{short}_found"] = score.kinds[kind].completeness
        row[f"{short}_pure"] = score.kinds[kind].purity
        if kind == "cosmic_ray":
            row["hits_pure_off"] = purity_off_telegraph(score, truth)
    size = np.prod([config.num_frames, *config.image_shape]) * 2
    row |= {
        "clean_flagged": float(flagged.mean()),
        "cpu_s": numbers["cpu_s"],
        "wall_s": numbers["wall_s"],
        "peak_mb": numbers["peak_bytes"] / 1e6,
        "per_byte": numbers["peak_bytes"] / float(size),
        "version": numbers["version"],
        "note": numbers["note"],
    }
    return row


def purity_off_telegraph(score: Score, truth: Truth) -> float:
    """Purity of the hits without detections on telegraph pixels, which some tools do not know."""
    hits = score.kinds["cosmic_ray"]
    false = score.false[score.false["type"] == "cosmic_ray"]
    elsewhere = sum(owner != "telegraph_noise" for owner in owners(false, truth))
    return hits.found / (hits.found + elsewhere) if hits.found + elsewhere else float("nan")


def found_by(
    tool: Tool, folder: Path, own: str, exposure: str, config: SimulationConfig
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Read what a tool found in one exposure: events in pixels of it, and the active pixels that it flags."""
    inside = active(config)
    start = folder / f"{exposure}_{own}"
    if tool.script == "run_fmbdask.py":
        mask = np.load(f"{start}_mask.npy")[inside, inside] > 0
        return pd.read_parquet(f"{start}_events.parquet"), mask
    cube = np.load(folder / f"{exposure}_cube.npy", mmap_mode="r")
    if tool.script == "run_stcal.py":
        flags = np.load(f"{start}_flags.npy")
        events, mask = events_of_flags(flags, cube), flags.any(axis=0)
    else:
        events, mask = events_of_ohana(Path(f"{start}_events.json"), cube.shape[1:])
    places = [c for c in ("y", "x", "peak_y", "peak_x") if c in events]
    events[places] = events[places] + config.border
    return events, mask
