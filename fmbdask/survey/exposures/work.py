"""Where store and science meet: exposures in, results out."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask

from ...atomic import atomic
from ...cluster.memory import bound_arenas
from ...errors import FmbdaskError, OutputExistsError
from ...ramps.config import DetectionConfig
from ...ramps.detect import Detection, detect
from ...ramps.detector import describe as read_labels
from ...ramps.devices import find_device
from ...ramps.measured import measure, to_arrays
from ...store.catalog import result_names
from ...store.checks import check_exposure
from ...store.ingest import ingest
from ...store.overrides import open_described
from ...store.ramps import label, open_ramp
from .compiling import compile_kernels
from .export import Exports, check_exports, write_exports
from .history import prior_of
from .pinned import open_network, pinned
from .results import known_offsets, write_result

Report = Callable[[int, int, str], None]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What became of one exposure: where its result is, or why there is none, and a summary of it."""

    exposure: Path
    result: Path | None = None
    error: str | None = None
    summary: str = ""


@dataclass(frozen=True)
class Remembered:
    """Folder of detector histories to use, and name of the detector where headers have none or another."""

    history: Path | None = None
    detector: str | None = None


def detect_exposure(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    config: DetectionConfig | None = None,
    *,
    name: str | None = None,
    overwrite: bool = False,
    features: bool = False,
    exports: Exports | None = None,
    overrides: Mapping[str, Any] | None = None,
    remembered: Remembered | None = None,
    progress: Report | None = None,
    device: str = "cpu",
) -> Path:
    """Detect on one exposure and write its result.

    Parameters
    ----------
    path : path
        Exposure of any format.
    out : path
        Folder of results; this one goes to ``out/<name>``, its stem by default.
    config : DetectionConfig, optional
    name : str, optional
    overwrite : bool
        Whether a result that is there is replaced.
    features : bool
        Whether every temporal feature is kept in ``products.zarr``.
    exports : Exports, optional
        Files for other tools, see :mod:`fmbdask.survey.exposures.export`.
    overrides : mapping, optional
        What :func:`fmbdask.open_ramp` takes.
    remembered : Remembered, optional
        History of the detector, and its name.
    progress : callable, optional
        Called with (regions done, regions, text).
    device : {"cpu", "gpu", "auto"}
        Where the first pass over every pixel runs.

    Returns
    -------
    Path
        Folder with ``detections.json``, ``detections.parquet``, ``steps.parquet`` and ``products.zarr``,
        whole or not there.

    Raises
    ------
    InputError
        If the exposure cannot be used.
    OutputExistsError
        If there is a result already.
    """
    return _detect(
        Path(path),
        Path(out) / (name or result_names([path])[0]),
        pinned(config or DetectionConfig()),
        overwrite,
        features,
        exports or Exports(),
        overrides,
        remembered or Remembered(),
        progress,
        device,
    )[0]


def _detect(
    path: Path,
    target: Path,
    settings: DetectionConfig,
    overwrite: bool,
    features: bool,
    exports: Exports,
    overrides: Mapping[str, Any] | None,
    remembered: Remembered,
    progress: Report | None,
    device: str,
) -> tuple[Path, Detection]:
    """Detect on one exposure; returns its folder and what was found."""
    if target.exists() and not overwrite:
        raise OutputExistsError(
            f"{target} is already there: give --overwrite to replace it, or another folder"
        )
    described = open_described(path, **(overrides or {}))
    ramp = label(described)
    check_exposure(ramp)
    check_exports(exports, ramp)
    detector = read_labels(ramp)
    measured = known_offsets(described, ramp, detector, overrides or {})
    prior = None
    if remembered.history is not None:
        prior = prior_of(remembered.history, path, ramp, detector, remembered.detector)
    found = detect(
        ramp, settings, features=features or exports.numpy, measured=measured, prior=prior, progress=progress,
        device=device,
    )  # fmt: skip
    with atomic(target, overwrite=overwrite) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        write_result(
            folder, path, ramp, found, settings, overrides or {}, features=features, name=remembered.detector
        )
        write_exports(folder, target.name, ramp, found, exports)
    return target, found


def detect_exposures(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    config: DetectionConfig | None = None,
    overwrite: bool = False,
    features: bool = False,
    exports: Exports | None = None,
    overrides: Mapping[str, Any] | None = None,
    remembered: Remembered | None = None,
    threads: int | None = None,
    progress: Report | None = None,
    device: str = "cpu",
) -> list[Outcome]:
    """Detect on several exposures, one after the other, each with all threads; one that fails stops no other.

    Parameters
    ----------
    paths : sequence of path
        Exposures of any format; equal stems get folders that tell them apart.
    out : path
        Folder of results.
    config, overwrite, features, exports, overrides, remembered, progress, device
        As in :func:`detect_exposure`.
    threads : int, optional
        Threads; all cores by default.

    Returns
    -------
    list of Outcome
        In the order of ``paths``.

    Raises
    ------
    ConfigError
        If there is no such device here.
    InputError
        If the network of the configuration cannot be asked.
    """
    names = result_names(paths)
    outcomes = []
    device = find_device(device)
    settings = pinned(config or DetectionConfig())
    bound_arenas()
    compile_kernels()
    open_network(settings)
    with (
        ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool,
        dask.config.set(scheduler="threads", pool=pool),
    ):
        for path, name in zip(map(Path, paths), names, strict=True):
            try:
                target, found = _detect(
                    path,
                    Path(out) / name,
                    settings,
                    overwrite,
                    features,
                    exports or Exports(),
                    overrides,
                    remembered or Remembered(),
                    progress,
                    device,
                )
            except Exception as error:
                outcomes.append(Outcome(path, error=reason(path, error)))
            else:
                outcomes.append(Outcome(path, target, summary=_summary(found)))
    return outcomes


def reason(path: Path, error: Exception) -> str:
    """Say in one sentence why an exposure failed; the traceback of what was not foreseen goes to the log."""
    if isinstance(error, FmbdaskError | OSError):
        return str(error)
    logger.debug("%s failed", path, exc_info=error)
    text = " ".join(str(error).split())
    return f"{path}: unexpected {type(error).__name__}: {text}; run again with --debug and report it"


def _summary(found: Detection) -> str:
    """Count the events of each kind, say what chance makes of noise, and what was decided.

    Noise steps downwards as often as upwards, and no hit does: negative steps show what chance really did.
    """
    counts = found.events["type"].value_counts()
    kinds = [
        f"{counts.get(k, 0)} {k.replace('_', ' ')}" for k in ("cosmic_ray", "telegraph_noise", "snowball")
    ]
    chance = (
        f"{found.info['false_alarms_expected']:.2g} false alarms expected, "
        f"{found.info['negative_steps_beyond_threshold']} negative steps beyond the threshold"
    )
    return "; ".join([", ".join(kinds), chance, *found.info["notes"]])


def ingest_exposures(
    paths: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    overrides: Mapping[str, Any] | None = None,
    progress: Report | None = None,
) -> list[Outcome]:
    """Copy exposures into verified Zarr stores ``out/<stem>.zarr``; one that fails stops no other.

    The offsets that pixels share are measured on the way and kept beside the ramp: detection reads them.
    ``overrides`` are what :func:`fmbdask.open_ramp` takes.
    """
    outcomes = []
    for path, name in zip(map(Path, paths), result_names(paths), strict=True):
        target = Path(out) / f"{name}.zarr"

        def strips(done: int, total: int, nbytes: int, name: str = name) -> None:
            if progress is not None:
                progress(done, total, f"{name}: {nbytes / 1e6:.0f} MB")

        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            ramp = open_ramp(path, **(overrides or {}))
            check_exposure(ramp)
            detector = read_labels(ramp)
            offsets = to_arrays([measure(ramp, detector, i) for i in range(detector.shape[0])], detector)
            ingest(path, target, overwrite=overwrite, prepared=offsets, progress=strips, **(overrides or {}))
        except Exception as error:
            outcomes.append(Outcome(path, error=reason(path, error)))
        else:
            outcomes.append(Outcome(path, target))
    return outcomes
