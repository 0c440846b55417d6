"""`bench truth`: quality on simulated exposures that tuning did not use, and false alarms on clean ramps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from fmbdask.ramps.detect import detect
from fmbdask.ramps.simulation import make_exposure

from ..settings import CLEAN, FIRST_SEED, SETTINGS, Noise, Setting
from ..write import as_text, write_tables
from .clean import false_alarms, single_steps
from .figures import figures
from .judge import Judged, judge
from .report import printed
from .slopes import judge_slopes

Report = Callable[[int, int, str], None]
Size = tuple[int, int, int]

#: Edges of the bins of amplitude [sigma], of light [electron / frame], and of confidence.
AMPLITUDES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0, np.inf)
LIGHT = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0, np.inf)
CONFIDENCE = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)
#: Transitions and mean dwell time from which telegraph pixels enter the table by amplitude.
TRANSITIONS = 3


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    sizes : tuple
        Frames, rows and columns of the exposures with events.
    seeds : int
        Exposures of each setting and size.
    clean_frames, clean_size, ramps : tuple, int, int
        Lengths of the clean ramps, pixels along each side of their exposures, and how many of each kind.
    step_frames, step_exposures : tuple, int
        Lengths of the ramps with single steps, and exposures of each.
    settings, noises
        What is measured.
    """

    sizes: tuple[Size, ...] = ((100, 512, 512), (300, 256, 256))
    seeds: int = 3
    clean_frames: tuple[int, ...] = (20, 100, 450)
    clean_size: int = 512
    ramps: int = 1_000_000
    step_frames: tuple[int, ...] = (20, 100, 450)
    step_exposures: int = 2
    settings: tuple[Setting, ...] = tuple(SETTINGS.values())
    noises: tuple[Noise, ...] = CLEAN

    @property
    def exposures_of_ramps(self) -> int:
        """Exposures that hold so many clean ramps."""
        return max(round(self.ramps / self.clean_size**2), 1)


#: False-alarm rates at which single steps are looked for: the default, and one that long darks keep well.
STEP_RATES = (1e-5, 1e-2)
STEP_NOISE = CLEAN[1]


def plan_of(quick: bool = False, seeds: int = 3, ramps: int | None = None) -> Plan:
    """A full plan, or one for less than a minute on two cores."""
    if not quick:
        return Plan(seeds=seeds, ramps=ramps or Plan.ramps)
    return Plan(
        sizes=((60, 192, 192),), seeds=seeds, clean_frames=(20, 100), clean_size=192, ramps=ramps or 40_000,
        step_frames=(100,), step_exposures=1,
    )  # fmt: skip


def truth_files(plan: Plan, out: Path, report: Report | None = None) -> tuple[str, list[Path]]:
    """Measure; write ``truth.txt``, a CSV file a table and the figures. Returns the text and the paths."""
    tables = truth(plan, report)
    text = as_text(printed(tables))
    paths = write_tables(tables, text, out, "truth")
    for name, figure in figures(tables).items():
        paths.append(out / f"truth_{name}.png")
        figure.savefig(paths[-1])
    return text, paths


def truth(plan: Plan, report: Report | None = None) -> dict[str, pd.DataFrame]:
    """Measure the detector against the truth of simulated exposures.

    Parameters
    ----------
    plan : Plan
    report : callable, optional
        Called with (measurements done, measurements, text).

    Returns
    -------
    dict of DataFrame
        ``quality`` (median and worst of the seeds), ``exposures`` (the same, each by itself), ``amplitude``
        and ``light`` (completeness in bins), ``confidence`` (its reliability), ``false_alarms`` (the
        calibration curve), ``steps`` (single steps in clean ramps), ``slopes``, and ``missed`` and ``false``:
        the scored events that were not found, and the detections of nothing.
    """
    cases = [(s, size, k) for size in plan.sizes for s in plan.settings for k in range(plan.seeds)]
    clean = [(noise, frames) for frames in plan.clean_frames for noise in plan.noises]
    total, done = len(cases) + len(clean) + len(plan.step_frames), 0
    parts: dict[str, list[pd.DataFrame]] = {}

    def tick(text: str) -> None:
        nonlocal done
        done += 1
        if report:
            report(done, total, text)

    for setting, size, k in cases:
        for name, table in one_exposure(setting, size, k).items():
            parts.setdefault(name, []).append(table)
        tick(f"{setting.name}, {size[0]} frames, seed {FIRST_SEED + k}")
    for noise, frames in clean:
        alarms = false_alarms(noise, frames, plan.clean_size, plan.exposures_of_ramps)
        parts.setdefault("false_alarms", []).append(alarms)
        tick(f"{noise.name}, {frames} frames")
    for frames in plan.step_frames:
        steps = single_steps(STEP_NOISE, frames, plan.clean_size, plan.step_exposures, STEP_RATES)
        parts.setdefault("steps", []).append(steps)
        tick(f"single steps, {frames} frames")
    whole = {name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()}
    events, detections = whole.pop("events"), whole.pop("detections")
    return {
        "quality": median_and_worst(whole["exposures"]),
        "amplitude": completeness_by(events, "peak_sigma", AMPLITUDES),
        "light": completeness_by(events[events["scored"]], "rate", LIGHT),
        "confidence": reliability(detections),
        **whole,
    }


def one_exposure(setting: Setting, size: Size, number: int) -> dict[str, pd.DataFrame]:
    """Simulate, search and judge one exposure, counted from 0; each table says which."""
    config, seed = setting.sized(*size, number), FIRST_SEED + number
    ramp, true = make_exposure(config, seed=seed)
    found = detect(ramp)
    judged: Judged = judge(found, true)
    tables = {
        "exposures": judged.scores,
        "events": judged.events,
        "detections": judged.detections,
        "slopes": judge_slopes(ramp, found, true, config, seed),
        "missed": judged.missed,
        "false": judged.false,
    }
    label = {"setting": setting.name, "frames": size[0], "seed": seed}
    return {name: pd.DataFrame(label, index=t.index).join(t) for name, t in tables.items()}


def median_and_worst(exposures: pd.DataFrame) -> pd.DataFrame:
    """One row a setting, length and kind: the sums of events, and median and worst of the shares."""
    rows = []
    for (frames, setting, kind), group in exposures.groupby(["frames", "setting", "kind"], sort=False):
        row = {"setting": setting, "frames": frames, "kind": kind, "true": group["true"].sum()}
        row |= {"found": group["found"].sum(), "false": group["false"].sum(min_count=1)}
        for name in ("completeness", "purity", "within_1", "coverage"):
            values = group[name].dropna()
            row |= {name: values.median(), f"{name}_worst": values.min()}
        area = group["area"].dropna()
        row |= {"area": area.median(), "area_worst": area.max()}
        rows.append(row)
    return pd.DataFrame(rows)


def completeness_by(events: pd.DataFrame, column: str, edges: tuple[float, ...]) -> pd.DataFrame:
    """Completeness of hits, and of telegraph pixels that switch often enough, in bins of a column."""
    enough = (events["kind"] == "cosmic_ray") | (events["transitions"] >= TRANSITIONS)
    events = events[enough & (events["kind"] != "snowball")]
    rows = []
    for keys, group in events.groupby(["kind", "frames", "setting"], sort=False):
        for low, high in pairwise(edges):
            found = group.loc[(group[column] >= low) & (group[column] < high), "found"]
            if len(found):
                row = dict(zip(("kind", "frames", "setting"), keys, strict=True))
                span = {"from": low, "to": high, "events": len(found), "completeness": found.mean()}
                rows.append(row | span)
    return pd.DataFrame(rows)


def reliability(detections: pd.DataFrame) -> pd.DataFrame:
    """Stated confidence against the share of detections that are real, in bins of confidence."""
    rows = []
    every = [("all", detections), *detections.groupby("kind", sort=False)]
    for kind, own in every:
        for low, high in pairwise(CONFIDENCE):
            value = own["confidence"]
            part = own[(value >= low) & ((value < high) | (high == CONFIDENCE[-1]))]
            if len(part):
                stated, real = part["confidence"].mean(), part["real"].mean()
                row = {"kind": kind, "from": low, "to": high, "detections": len(part)}
                rows.append(row | {"stated": stated, "real": real, "difference": real - stated})
    return pd.DataFrame(rows)
