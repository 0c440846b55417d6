"""What two large surveys would cost on 10, 100 and 1000 nodes, from constants measured on one machine.

    python benchmarks/cost.py [--cores 64] [--bandwidth 100]

A calculation on paper: nothing is run. Each constant names the command that measures it; give your own with
`--set NAME=VALUE`, after `fmbdask bench` on your machine. Printed are core-hours, bytes and files, and for
numbers of nodes the hours that cores, file system, scheduler and ledger need, each by itself: the longest is
what gives way first.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Constants:
    """Measured constants; `python benchmarks/cost.py --list` names where each comes from."""

    #: CPU time of one exposure of 450 x 2048 x 2048, all of it [s] (benchmarks/exposure.py).
    exposure_cpu: float = 20.0
    #: Bytes of an exposure as uint16 over those on the disk (fmbdask bench io).
    exposure_ratio: float = 1.48
    #: Bytes of the products of an exposure, and files of them (fmbdask survey plan).
    exposure_out: float = 60e6
    exposure_files: float = 14.0
    #: CPU time of an object of 2 x 768 from summary to score, all detectors that are the default [s]
    #: (fmbdask bench embeddings, benchmarks/detectors.py, benchmarks/flow.py).
    object_cpu: float = 400e-6
    #: Bytes that are kept of an object's scores.
    object_out: float = 100.0
    #: Tasks that a scheduler with its coordinator gets through in a second (bench scaling --mode saturation).
    tasks_per_second: float = 150.0
    #: Work in one task [s] (span_seconds).
    task_seconds: float = 5.0
    #: Records that the coordinator indexes in a second, and bytes that each takes (benchmarks/million.py).
    marks_per_second: float = 5_000.0
    record_bytes: float = 430.0


EXPOSURES, SHAPE, EDGE = 100_000, (450, 2048, 2048), 128
OBJECTS, MODALITIES, WIDTH, SPAN = 1_000_000_000, 2, 768, 1_048_576
NODES = (10, 100, 1000)


@dataclass(frozen=True)
class Survey:
    """A survey in numbers: core seconds, bytes read, written, files, and regions."""

    name: str
    cpu: float
    read: float
    written: float
    files: float
    regions: float


def surveys(c: Constants) -> tuple[Survey, Survey]:
    """The two surveys."""
    pixels = SHAPE[1] * SHAPE[2]
    raw = SHAPE[0] * pixels * 2
    ramps = Survey(
        f"{EXPOSURES:.0e} exposures of 450 x 2048 x 2048",
        EXPOSURES * c.exposure_cpu,
        EXPOSURES * raw / c.exposure_ratio,
        EXPOSURES * c.exposure_out,
        EXPOSURES * c.exposure_files,
        EXPOSURES * (pixels // EDGE**2 + 2),
    )
    # vectors are read once for the summary, once again without what surprised, and once for the scores
    embeddings = Survey(
        f"{OBJECTS:.0e} objects of {MODALITIES} x {WIDTH}",
        OBJECTS * c.object_cpu,
        3 * OBJECTS * MODALITIES * WIDTH * 4,
        OBJECTS * c.object_out,
        OBJECTS / 65536 + 3 * OBJECTS / SPAN,
        3 * OBJECTS / SPAN,
    )
    return ramps, embeddings


def load(survey: Survey, c: Constants, nodes: int, cores: int, bandwidth: float) -> dict[str, float]:
    """What a survey asks of a cluster, and what it gives way to.

    Parameters
    ----------
    survey : Survey
    c : Constants
    nodes, cores : int
        Nodes, and cores of each.
    bandwidth : float
        Of the file system [byte/s].
    """
    slots = nodes * cores
    tasks = max(survey.cpu / c.task_seconds, 1.0)
    limits = {
        "cores": survey.cpu / slots,
        "file system": (survey.read + survey.written) / bandwidth,
        "scheduler": tasks / c.tasks_per_second,
        "ledger": survey.regions / c.marks_per_second,
    }
    return {"slots": slots, "tasks": tasks} | {f"{name} [h]": s / 3600 for name, s in limits.items()}


def first_limit(row: dict[str, float]) -> str:
    """Which of the limits takes longest."""
    times = {name.removesuffix(" [h]"): value for name, value in row.items() if name.endswith("[h]")}
    return max(times, key=times.__getitem__)


def text(c: Constants, cores: int, bandwidth: float) -> str:
    """Both surveys as text."""
    lines = []
    for survey in surveys(c):
        lines += [
            survey.name,
            f"  {survey.cpu / 3600:,.0f} core-hours, {survey.read / 1e12:,.1f} TB read, "
            f"{survey.written / 1e12:,.2f} TB written in {survey.files:,.0f} files",
            f"  {survey.regions:,.0f} regions, journals {survey.regions * c.record_bytes / 1e9:,.1f} GB",
            f"  {'nodes':>6} {'slots':>7} {'cores [h]':>10} {'files [h]':>10} {'sched. [h]':>10} "
            f"{'ledger [h]':>10}  gives way first",
        ]
        for nodes in NODES:
            row = load(survey, c, nodes, cores, bandwidth)
            lines.append(
                f"  {nodes:>6} {row['slots']:>7.0f} {row['cores [h]']:>10.2f} "
                f"{row['file system [h]']:>10.2f} {row['scheduler [h]']:>10.2f} {row['ledger [h]']:>10.2f}"
                f"  {first_limit(row)}"
            )
    return "\n".join(lines)


def main() -> None:
    """Print the calculation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=64, help="cores of a node")
    parser.add_argument("--bandwidth", type=float, default=100.0, help="of the file system [GB/s]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="another constant")
    parser.add_argument("--list", action="store_true", help="print the constants")
    given = parser.parse_args()
    names = {f.name for f in fields(Constants)}
    changed = {}
    for word in given.set:
        name, _, value = word.partition("=")
        if name not in names:
            parser.error(f"there is no constant {name}: {', '.join(sorted(names))}")
        changed[name] = float(value)
    constants = replace(Constants(), **changed)
    if given.list:
        print("\n".join(f"{f.name} = {getattr(constants, f.name):g}" for f in fields(Constants)))
    print(text(constants, given.cores, 1e9 * given.bandwidth))


if __name__ == "__main__":
    main()
