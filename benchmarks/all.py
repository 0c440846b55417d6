"""Every benchmark, one after the other, and a table of what they say: for a machine that has a night.

    python benchmarks/all.py [-o FOLDER] [--quick] [--only NAME,NAME]

What each prints is kept as FOLDER/NAME.txt, its tables beside it, and the summary as FOLDER/summary.csv: rows
of time, machine, versions and the figure that matters most of each. Two summaries tell what changed.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
COLUMNS = ("time", "host", "cores", "fmbdask", "python", "benchmark", "status", "seconds", "figure")


@dataclass(frozen=True)
class Benchmark:
    """A command, its small version, and what is read from its results.

    Attributes
    ----------
    name : str
    words : sequence of str
        Of `fmbdask`, or a script of this folder and its arguments; ``{out}`` is the folder of the results.
    quick : sequence of str
        What is added, or taken instead if it begins with ``=``, for the small version.
    figure : callable
        From the folder of the results and what was printed, to the figure in words.
    """

    name: str
    words: tuple[str, ...]
    quick: tuple[str, ...]
    figure: Callable[[Path, str], str]


def kernels(out: Path, printed: str) -> str:
    """The fused pass, per pixel and frame."""
    rows = json.loads(printed)
    return "; ".join(f"{row['name']} {row['value']:.3g} {row['unit']}" for row in rows[:2])


def truth(out: Path, printed: str) -> str:
    """Hits of all settings."""
    rows = pd.read_csv(out / "truth_quality.csv")
    hits = rows[rows["kind"] == "cosmic_ray"]
    lowest = hits[["completeness", "purity"]].min()
    return f"hits: completeness {lowest['completeness']:.3f} or more, purity {lowest['purity']:.3f} or more"


def layouts(out: Path, printed: str) -> str:
    """What the benchmark advises."""
    return " ".join(re.findall(r"^(?:ramps|vectors): .*$", printed, re.MULTILINE))


def scaling(out: Path, printed: str) -> str:
    """Share of the threads' time that was work, with the most threads and the longest tasks."""
    rows = pd.read_csv(out / "scaling.csv")
    last = rows.sort_values(["task_seconds", "slots"]).iloc[-1]
    return (
        f"{last['task']} {last['task_seconds']:g} s on {last['slots']:.0f} threads: "
        f"scheduling {last['scheduling']:.3f}, {1e3 * last['overhead']:.3g} ms a task"
    )


def overhead(out: Path, printed: str) -> str:
    """Wall time of a survey over that of a bare loop."""
    row = pd.read_csv(out / "overhead_summary.csv").set_index("way").loc["survey"]
    return (
        f"survey over bare loop: {row['ratio']:.3f} of the wall time, {row['cpu_ratio']:.3f} of the CPU time"
    )


def embeddings(out: Path, printed: str) -> str:
    """Planted anomalies: what is found, and how much of the lists is false."""
    rows = pd.read_csv(out / "embeddings_summary.csv")
    mean = rows[rows.iloc[:, 3] == "mean"]
    return f"found {mean['found'].min():.2f} or more of the planted, false {mean['false'].max():.2f} or less"


def last_lines(count: int) -> Callable[[Path, str], str]:
    """The last lines that were printed, as one."""
    return lambda out, printed: " | ".join(
        " ".join(line.split()) for line in printed.strip().splitlines()[-count:]
    )


SMALL_RUN = ("=", "million.py", "2000", "--each", "8", "--assume", "-o", "{out}")
SMALL_STORE = ("--objects", "8192", "--width", "64")
SMALL_PATCHES = ("--patch", "8", "8", "8", "--repeats", "1", "--large-patch", "8", "8", "8")
BENCHMARKS = (
    Benchmark("kernels", ("bench", "kernels", "--json"), ("--frames", "20", "--size", "32"), kernels),
    Benchmark("io", ("bench", "io", "-o", "{out}"), ("--quick",), layouts),
    Benchmark("overhead", ("bench", "overhead", "-o", "{out}"), ("--quick",), overhead),
    Benchmark("scaling", ("bench", "scaling", "-o", "{out}"), ("--quick",), scaling),
    Benchmark("truth", ("bench", "truth", "-o", "{out}"), ("--quick",), truth),
    Benchmark("embeddings", ("bench", "embeddings", "-o", "{out}"), ("--quick",), embeddings),
    Benchmark("projection", ("projection.py", "-o", "{out}"), ("--quick",), last_lines(3)),
    Benchmark("million", ("million.py", "1000000", "-o", "{out}"), SMALL_RUN, last_lines(6)),
    Benchmark("detectors", ("detectors.py", "-o", "{out}"), SMALL_STORE, last_lines(3)),
    Benchmark("flow", ("flow.py",), ("--objects", "4096", "--scored", "4096"), last_lines(2)),
    Benchmark("unet", ("unet.py",), SMALL_PATCHES, last_lines(6)),
    Benchmark("cost", ("cost.py",), (), last_lines(3)),
)


def command(benchmark: Benchmark, out: Path, quick: bool) -> list[str]:
    """Words of the process."""
    words = benchmark.words
    if quick:
        replaced = benchmark.quick[:1] == ("=",)
        words = benchmark.quick[1:] if replaced else (*words, *benchmark.quick)
    words = tuple(word.format(out=out) for word in words)
    if words[0].endswith(".py"):
        return [sys.executable, os.fspath(HERE / words[0]), *words[1:]]
    return [sys.executable, "-m", "fmbdask", *words]


def run(benchmark: Benchmark, out: Path, quick: bool) -> dict[str, str]:
    """Run one; a row of the summary."""
    own = out / benchmark.name
    own.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    done = subprocess.run(command(benchmark, own, quick), stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - begin
    (out / f"{benchmark.name}.txt").write_text(done.stdout, encoding="utf-8")
    status, figure = "done", ""
    if done.returncode:
        status = f"failed with status {done.returncode}"
    else:
        figure = benchmark.figure(own, done.stdout)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "cores": str(os.cpu_count()),
        "fmbdask": version("fmbdask"),
        "python": platform.python_version(),
        "benchmark": benchmark.name,
        "status": status,
        "seconds": f"{seconds:.1f}",
        "figure": figure,
    }


def main() -> None:
    """Run all, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, default=Path("bench"), help="folder of the results")
    parser.add_argument("--quick", action="store_true", help="small versions: shows that all of them work")
    parser.add_argument("--only", default="", help="names of benchmarks, separated by commas")
    given = parser.parse_args()
    names = [benchmark.name for benchmark in BENCHMARKS]
    wanted = given.only.split(",") if given.only else names
    for name in wanted:
        if name not in names:
            parser.error(f"there is no benchmark {name}: {', '.join(names)}")
    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for benchmark in BENCHMARKS:
        if benchmark.name in wanted:
            print(f"{benchmark.name} ...", file=sys.stderr, flush=True)
            rows.append(run(benchmark, out, given.quick))
            with (out / "summary.csv").open("a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if not file.tell():
                    writer.writeheader()
                writer.writerow(rows[-1])
    for row in rows:
        print(f"{row['benchmark']:<11} {float(row['seconds']):>7.1f} s  {row['status']:<6}  {row['figure']}")
    if any(row["status"] != "done" for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
