"""Time and memory of detectors of anomalous embeddings, in bounded memory whatever the number of objects.

    python benchmarks/detectors.py [--objects N] [--width D] [--threads T] [--steps STEP ...]
        [--lazy] [-o FOLDER]

A store of N objects with two modalities of D features is made, read, and searched: Mahalanobis distances and
residuals of one modality, fitted in one pass and scored in one, distances with reweighting, and the cosine of
both. With
``--lazy`` one modality comes from a seed, made anew each time it is read, and nothing is on disk. Printed of
each step are CPU and wall seconds, microseconds of CPU per object, the largest anonymous memory of the
process while it ran, and throughput as a share of that of reading the same vectors alone.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import fmbdask
from fmbdask.anomaly import Cosine, Mahalanobis, Residual, scores
from fmbdask.anomaly.objects import Objects
from fmbdask.anomaly.reading import summary_of
from fmbdask.anomaly.threads import cores
from fmbdask.regions import BLOCK
from fmbdask.store.embeddings import EmbeddingWriter, Modality

#: Microseconds of CPU per object in which the cosine stage of the reference pipeline works.
REFERENCE_COSINE = 175.0
STEPS = ("cosine", "distance", "robust")
#: Dimensions in which made-up vectors vary strongly, and how much all others do.
STRONG, WEAK = 64, 0.05


def block(start: int, count: int, width: int, seed: int) -> NDArray[np.float32]:
    """Vectors (count, width) that vary strongly along a few directions and weakly along all."""
    turned = np.random.default_rng(seed).standard_normal((min(STRONG, width), width), dtype=np.float32)
    random = np.random.default_rng([seed, start])
    values = random.standard_normal((count, width), dtype=np.float32)
    values *= np.float32(WEAK)
    strong = random.standard_normal((count, len(turned)), dtype=np.float32)
    values += strong @ (turned / np.float32(np.sqrt(width)))
    return values


def made(count: int, width: int) -> xr.Dataset:
    """One modality, made from a seed block by block whenever it is read."""

    def make(block_info: Any = None) -> NDArray[np.float32]:
        (start, stop), _ = block_info[None]["array-location"]
        return block(start, stop - start, width, 1)

    sizes = da.core.normalize_chunks(BLOCK, shape=(count,), dtype=np.float32)[0]
    lazy = da.map_blocks(make, chunks=(sizes, (width,)), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    return xr.Dataset(
        {"image": (("object", "image_feature"), lazy)}, coords={"object_id": ("object", np.arange(count))}
    )


def write(path: Path, count: int, width: int) -> None:
    """A store of two modalities that agree."""
    modalities = [Modality(name, width, model="made") for name in ("image", "spectrum")]
    with EmbeddingWriter(path, modalities, objects=count) as writer:
        for start in range(0, count, BLOCK):
            size = min(BLOCK, count - start)
            image = block(start, size, width, 1)
            spectrum = image + block(start, size, width, 2) * np.float32(0.3)
            writer.write(np.arange(start, start + size), {"image": image, "spectrum": spectrum})


def anonymous() -> int:
    """Anonymous memory of this process [byte]."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


class Step:
    """Runs steps and prints what they took."""

    def __init__(self, objects: int) -> None:
        self.objects = objects
        self.rates: dict[str, float] = {}
        print(f"{'':44s}{'CPU s':>9s}{'wall s':>9s}{'us CPU/object':>15s}{'peak MB':>9s}")

    def __call__(self, name: str, work: Callable[[], Any], reading: str | None = None) -> float:
        """CPU microseconds per object; throughput is compared to that of the step called ``reading``."""
        peak, ended = [anonymous()], threading.Event()

        def watch() -> None:
            while not ended.wait(0.02):
                peak[0] = max(peak[0], anonymous())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        ended.set()
        watcher.join()
        each = 1e6 * cpu / self.objects
        self.rates[name] = self.objects / wall
        line = f"{name:44s}{cpu:9.1f}{wall:9.1f}{each:15.2f}{peak[0] / 1e6:9.0f}"
        if reading is not None:
            line += f"   throughput {self.rates[name] / self.rates[reading]:.3f} of reading"
        print(line, flush=True)
        return each


def read(data: xr.Dataset, *modalities: str) -> None:
    """Read all vectors, and drop them."""
    lazy = [data[m].data.map_blocks(lambda b: b[:1, :1].copy(), meta=np.empty((0, 0))) for m in modalities]
    dask.compute(*lazy)


def fit_together(detectors: list[Mahalanobis | Residual], data: xr.Dataset, threads: int) -> None:
    """Fit detectors of one modality to one pass over it."""
    objects = Objects.of(data, ["image"])
    summary = summary_of(objects, detectors[0].folds, threads=threads)
    for detector in detectors:
        detector.begin(objects.widths, objects.provenance, None)
        detector.learn_from(summary)


def measure(data: xr.Dataset, threads: int, steps: list[str]) -> None:
    """Fit and score, step by step."""
    step = Step(data.sizes["object"])
    if "cosine" in steps and "spectrum" in data:
        cosine = Cosine()
        step("reading both", lambda: read(data, "image", "spectrum"))
        step("calibration of cosine", lambda: cosine.fit(data, threads=threads), "reading both")
        each = step(
            "scores of cosine, reading included", lambda: cosine.score(data).compute(), "reading both"
        )
        print(f"cosine: 1/{REFERENCE_COSINE / each:.0f} of {REFERENCE_COSINE:.0f} us of CPU per object")
    step("reading image", lambda: read(data, "image"))
    if "distance" in steps:
        detectors: dict[str, Any] = {"mahalanobis": Mahalanobis(), "residual": Residual()}
        fit = "fit of mahalanobis and residual, one pass"
        step(fit, lambda: fit_together(list(detectors.values()), data, threads), "reading image")
        together = scores(detectors, data)
        step("scores of both, one pass", lambda: together.compute(), "reading image")
    if "robust" in steps:
        robust = Mahalanobis(robust=True)
        fit = "fit of mahalanobis, robust, two passes"
        step(fit, lambda: robust.fit(data, modalities=["image"], threads=threads), "reading image")
        step("scores of mahalanobis", lambda: robust.score(data).compute(), "reading image")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS), help="what to measure")
    parser.add_argument("--lazy", action="store_true", help="one modality, made on the fly")
    parser.add_argument("-o", "--out", type=Path, help="folder for the store, kept there and used again")
    given = parser.parse_args()
    modalities = 1 if given.lazy else 2
    print(f"{given.objects} objects x {modalities} x {given.width}, {given.threads} threads")
    with (
        dask.config.set(scheduler="threads", num_workers=given.threads),
        tempfile.TemporaryDirectory(prefix="detectors-") as scratch,
    ):
        if given.lazy:
            measure(made(given.objects, given.width), given.threads, given.steps)
            return
        path = (given.out or Path(scratch)) / f"made_{given.objects}_{given.width}.zarr"
        if not path.exists():
            write(path, given.objects, given.width)
        measure(fmbdask.open_embeddings(path), given.threads, given.steps)


if __name__ == "__main__":
    main()
