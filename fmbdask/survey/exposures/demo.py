"""A small survey from end to end: simulated, searched on a local cluster, scored against the truth."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fmbdask.errors import OutputExistsError
from fmbdask.survey.exposures.tally import Demo, Tally

if TYPE_CHECKING:
    from distributed import Client

    from fmbdask.ramps.simulation import SimulationConfig
    from fmbdask.ramps.simulation.scoring import Score

Report = Callable[[int, int, str], None]

EXPOSURES = 8
SEED = 2027
#: Charges of the hits, down to what no one finds [electron].
CHARGES = (60.0, 6000.0)
#: Network that is asked beside the rules, where torch is installed, and how sure it must be.
NETWORK, CONFIDENCE = "small" if find_spec("torch") else None, 0.8
#: What a demo leaves in its folder, and all that an overwriting demo removes.
PARTS = ("data", "results", "catalog", "figures", "report.html")


def run(
    out: str | Path,
    *,
    exposures: int = EXPOSURES,
    edge: int = 256,
    frames: int = 60,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Report | None = None,
) -> Demo:
    """Simulate a small survey, find its anomalies on a local Dask cluster, and write a report.

    Parameters
    ----------
    out
        Folder: `data/` (exposures and truth), `results/` (one folder an exposure), `catalog/events.parquet`,
        `figures/` and `report.html` go there.
    exposures, edge, frames
        Size of the survey: exposures of (frames, edge, edge).
    workers
        Processes of the cluster; one a core by default.
    overwrite
        Replace what an earlier demo left.
    progress
        Called with (done, total, text).

    Returns
    -------
    Demo
        Scores against the truth.

    Raises
    ------
    OutputExistsError
        The folder holds a demo already and `overwrite` is False.
    """
    from fmbdask.cluster.local import local_cluster

    began = time.monotonic()
    out = Path(out)
    clear(out, overwrite)
    simulate = partial(simulate_one, survey(edge, frames), out / "data")
    detect = partial(detect_one, out=out / "results")
    report = progress or silent
    report(0, 2 * exposures, "starting workers; the first run on a machine compiles the kernels")
    with local_cluster(workers) as client:
        paths, results = work_through(client, simulate, detect, exposures, report)
    scores, by_rules = {}, {}
    for path, result in zip(paths, results, strict=True):
        scores[path.stem], by_rules[path.stem] = score(path, result)
    tallies = add_up(scores)
    network = None if NETWORK is None else beside(tallies, add_up(by_rules))
    numbers = {
        name: {kind: part.detected for kind, part in each.kinds.items()} for name, each in scores.items()
    }
    write_catalog(results, out / "catalog" / "events.parquet")
    demo = Demo(out, tallies, network, numbers, frames, edge, time.monotonic() - began)
    write_report(demo, results)
    return demo


def clear(out: Path, overwrite: bool) -> None:
    """Make way for a new demo: only what a demo writes is ever removed."""
    taken = [out / part for part in PARTS if (out / part).exists()]
    if taken and not overwrite:
        raise OutputExistsError(f"{taken[0]} is already there: choose another folder or give --overwrite")
    for path in taken:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    out.mkdir(parents=True, exist_ok=True)


def survey(edge: int, frames: int) -> SimulationConfig:
    """Exposures with all kinds of events: as many as make a figure worth looking at, and faint ones."""
    from fmbdask.ramps.simulation import SimulationConfig

    return SimulationConfig(cosmic_ray_charge_range=CHARGES).resized(frames, edge, edge)


def simulate_one(config: SimulationConfig, folder: Path, index: int) -> Path:
    """Simulate one exposure, in a worker."""
    from fmbdask.survey.exposures.simulate import simulate_survey

    return simulate_survey(config, folder, start_index=index, end_index=index, seed=SEED, workers=1)[0]


def detect_one(path: Path, *, out: Path) -> Path:
    """Detect on one exposure, in a worker; returns the folder of its result."""
    import dask

    from fmbdask.ramps.config import DetectionConfig
    from fmbdask.survey.exposures.work import detect_exposure

    # The regions of an exposure stay in the worker that has it, instead of going back to the cluster.
    with dask.config.set(scheduler="synchronous"):
        return detect_exposure(path, out, DetectionConfig(model=NETWORK, model_confidence=CONFIDENCE))


def work_through(
    client: Client,
    simulate: Callable[[int], Path],
    detect: Callable[[Path], Path],
    count: int,
    report: Report,
) -> tuple[list[Path], list[Path]]:
    """Simulate and search all exposures on the cluster; exposures and results come in their order."""
    from distributed import as_completed

    exposures = [client.submit(simulate, 0, pure=False)]
    # The first search has the kernels compiled and left on disk, while other workers simulate: until it is
    # done, no other search would do anything but compile the same again.
    results = [client.submit(detect, exposures[0], pure=False)]
    exposures += [client.submit(simulate, index, pure=False) for index in range(1, count)]
    finished = as_completed([*exposures, *results])
    for done, future in enumerate(finished, 1):
        verb = "searched" if future in results else "simulated"
        report(done, 2 * count, f"{verb} {future.result().stem}")
        if future is results[0]:
            others = [client.submit(detect, exposure, pure=False) for exposure in exposures[1:]]
            results += others
            finished.update(others)
    return [each.result() for each in exposures], [each.result() for each in results]


def score(path: Path, result: Path) -> tuple[Score, Score]:
    """Score the result of one exposure against its truth, and what the rules alone found."""
    from fmbdask.ramps.simulation.scoring import match
    from fmbdask.store.catalog import read_table
    from fmbdask.survey.exposures.simulate import read_truth

    table, truth = read_table(result / "detections.parquet"), read_truth(path)
    return match(table, truth), match(table[table["found_by"] == "rules"], truth)


def beside(tallies: dict[str, Tally], by_rules: dict[str, Tally]) -> Tally:
    """Tally of the cosmic rays that are not those of the rules."""
    both, rules = tallies["cosmic_ray"], by_rules["cosmic_ray"]
    return Tally(
        rules.expected - rules.right, both.right - rules.right, both.found - rules.found,
        both.wrong - rules.wrong,
    )  # fmt: skip


def add_up(scores: dict[str, Score]) -> dict[str, Tally]:
    """Tally of each kind over all exposures."""
    tallies: dict[str, Tally] = {}
    for each in scores.values():
        for kind, part in each.kinds.items():
            own = Tally(part.true, part.found, part.detected, part.false)
            tallies[kind] = tallies.get(kind, Tally()).plus(own)
    return tallies


def write_catalog(results: list[Path], path: Path) -> None:
    """Write the events of all exposures as one table, with the name of the exposure in front."""
    import pandas as pd

    from fmbdask.store.catalog import read_table, write_table

    tables = {result.name: read_table(result / "detections.parquet") for result in results}
    units = {"exposure": "1"}
    for table in tables.values():
        units |= table.attrs["units"]
    together = pd.concat(tables, names=["exposure"]).reset_index("exposure").reset_index(drop=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, together, units=units)


def write_report(demo: Demo, results: list[Path]) -> None:
    """Draw the figures and write the page that holds them."""
    from fmbdask.store.catalog import read_table
    from fmbdask.survey.exposures.show import figures, read_result
    from fmbdask.survey.reporting.page import Picture, png, write_page
    from fmbdask.viz.ramps import counts

    folder = demo.out / "figures"
    folder.mkdir()
    shown = max(results, key=lambda result: sum(demo.numbers[result.name].values()))
    drawn = {
        f"{shown.name}_{name}": figure for name, figure in figures(read_result(shown)) if name != "counts"
    }
    events = read_table(demo.out / "catalog" / "events.parquet")
    drawn = {"counts": counts(events, frames=demo.frames, title="All exposures")} | drawn
    captions = {
        "counts": ("All exposures together", "Events of each kind, how strong they are, and when they came."),
        "overview": (f"{shown.name}: rate image", "Every event found, on the rate image of the exposure."),
        "gallery": (
            f"{shown.name}: the strongest events of each kind",
            "What changed around each event, and the corrected counts of up to three of its pixels with the "
            "fitted model; a dashed line marks the first frame of the event.",
        ),
    }
    pictures = []
    for name, figure in drawn.items():
        data = png(figure)
        (folder / f"{name}.png").write_bytes(data)
        title, caption = captions[name.rsplit("_", 1)[-1]]
        pictures.append(Picture(title, caption, data))
    write_page(demo, pictures, demo.out / "report.html")


def silent(done: int, total: int, text: str) -> None:
    """Report nothing."""
