"""Ramp detection over many exposures: measure what an exposure's regions share, search them, reduce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ...errors import FmbdaskError, InputError
from ...ramps.blocks import limiting_maps, limits_of
from ...ramps.config import DetectionConfig
from ...ramps.detect import detect, finish, prepare_all
from ...ramps.detector import Detector, describe
from ...ramps.linearity import coefficients_of, linear_block, linearise
from ...ramps.prepare import Prepared
from ...ramps.region import RegionResult, search_region
from ...regions import Region, edge_for
from ...store.checks import check_exposure
from ...store.overrides import Described, open_described
from ...store.ramps import chunk_edge, label
from ...store.run.items import Item
from ..compiling import compile_kernels, tiny
from ..config import SurveyConfig
from ..history import prior_of
from ..pipeline import Context, Memory
from ..results import known_offsets, write_result
from .catalog import write_catalog
from .inline import inline

#: Exposures that a process keeps open: headers and maps.
MOST_OPEN = 8


class RampPipeline:
    """Ramp detection, one stage; a :class:`~fmbdask.survey.pipeline.Pipeline`.

    Its products are what :func:`fmbdask.survey.work.detect_exposure` writes, bit by bit.

    Parameters
    ----------
    config : SurveyConfig
    """

    name = "ramps"

    def __init__(self, config: SurveyConfig) -> None:
        self.config = config
        self.stages = (RampStage(config),)

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Describe exposures from their headers."""
        return [self._item(path, index) for index, path in enumerate(paths, first)]

    def _item(self, path: str, index: int) -> Item:
        empty = Item(index, "", path)
        try:
            described = open_described(path, **self.config.exposure.given())
            describe(label(described))
            if described.attrs.get("accumulating") is False:
                raise InputError(
                    f"{path} holds fluxes that do not accumulate, which are no ramp: say accumulate: true "
                    "under exposure to integrate them over time"
                )
        except (FmbdaskError, OSError) as error:
            return replace(empty, problem=" ".join(str(error).split()))
        except Exception as error:  # a reader that trips over a damaged header stops no survey
            return replace(
                empty,
                problem=f"{path} cannot be read ({type(error).__name__}: {error}): get a fresh copy of it",
            )
        source = described.source
        edge = self.config.edge or chunk_edge(source)
        return self.shaped(empty, source.shape, str(source.dtype), edge)

    def shaped(self, item: Item, shape: Sequence[int], dtype: str, edge: int = 0) -> Item:
        """Complete an item whose shape is known: its regions, and the bytes in and out."""
        full = (1, *shape) if len(shape) == 3 else tuple(shape)
        itemsize = np.dtype(dtype).itemsize
        edge = edge or self.config.edge or edge_for(full[1], itemsize)
        pixels = full[0] * full[2] * full[3]
        count = full[0] * -(-full[2] // edge) * -(-full[3] // edge)
        return replace(
            item,
            shape=full,
            dtype=dtype,
            edge=edge,
            regions=(count,),
            nbytes=pixels * full[1] * itemsize,
            nbytes_out=pixels * (BYTES_WITH_FEATURES if self.config.features else BYTES_OUT),
        )

    def fingerprint(self) -> Mapping[str, Any]:
        """What the results depend on beside the inputs."""
        kept = self.config.as_json()
        return {key: kept[key] for key in DECISIVE}

    def warm(self) -> None:
        """Load the kernels."""
        compile_kernels()
        detect(tiny())


#: Settings that decide about the results.
DECISIVE = ("pipeline", "detection", "exposure", "history", "detector", "features")
#: Bytes that a pixel takes in the products: four maps that hardly compress; every feature.
BYTES_OUT, BYTES_WITH_FEATURES = 14, 60


@dataclass(frozen=True)
class Opened:
    """An exposure as a process keeps it: its lazy labelled array, and maps in memory."""

    described: Described
    ramp: xr.DataArray

    @cached_property
    def detector(self) -> Detector:
        """What its labels say."""
        return describe(self.ramp)

    @cached_property
    def linear(self) -> xr.DataArray:
        """The ramp with linear counts, for who reads blocks of it lazily."""
        return linearise(self.ramp, self.detector)

    @cached_property
    def coefficients(self) -> NDArray[np.float32] | None:
        """Coefficients that make counts linear."""
        return coefficients_of(self.ramp, self.detector)

    def maps(self, prepared: Sequence[Prepared]) -> dict[str, NDArray[Any]]:
        """Maps that say which reads may be used."""
        held: dict[str, NDArray[Any]] | None = self.__dict__.get("_maps")
        if held is None:
            held = self.__dict__["_maps"] = limiting_maps(self.ramp, prepared)
        return held

    def stored(self, region: Region) -> NDArray[Any]:
        """All frames of a region as the file has them, (T, ny, nx)."""
        return self.described.source.read(region)

    def flags(self, region: Region, stored: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Flags of a region; those of values that are not finite need no second reading."""
        source = self.described.source
        if not source.has_flags:
            return None
        return source.read_flags(region) if source.stores_flags else (~np.isfinite(stored)).view(np.uint8)

    def counts(self, stored: NDArray[Any], region: Region) -> NDArray[Any]:
        """Linear counts of a region."""
        if self.coefficients is None:
            return stored
        return linear_block(stored, self.coefficients[:, region.y, region.x])

    def read(self, region: Region) -> NDArray[Any]:
        """Linear counts of any block, (T, ny, nx)."""
        return self.counts(self.stored(region), region)


_opened: dict[tuple[Any, ...], Opened] = {}
_opening = Lock()


def opened(item: Item, overrides: Mapping[str, Any]) -> Opened:
    """Open the exposure of an item, or take it as this process has it.

    Raises
    ------
    InputError
        If it cannot be opened, or is no longer what it was when the run was planned.
    """
    key = (item.path, item.size, item.mtime_ns, repr(sorted(overrides.items())))
    with _opening:
        found = _opened.get(key)
    if found is not None:
        return found
    described = open_described(item.path, **overrides)
    if described.source.shape != item.shape or str(described.source.dtype) != item.dtype:
        raise InputError(
            f"{item.path} holds {described.source.shape} values of type {described.source.dtype}, not "
            f"{item.shape} of {item.dtype} as when the run was planned: resume the run and accept the change"
        )
    new = Opened(described, label(described))
    with _opening:
        while len(_opened) >= MOST_OPEN:
            _opened.pop(next(iter(_opened)))
        return _opened.setdefault(key, new)


class RampStage:
    """The one stage of ramp detection; a :class:`~fmbdask.survey.pipeline.Stage`."""

    name = "ramps"
    resources: Mapping[str, float] = {}

    def __init__(self, config: SurveyConfig) -> None:
        self.settings: DetectionConfig = config.detection
        self.overrides = config.exposure.given()
        self.features = config.features
        self.history = None if config.history is None else Path(config.history)
        self.detector = config.detector

    def memory(self, item: Item) -> Memory:
        """Bound the memory of the units of an exposure."""
        integrations, frames, rows, columns = item.shape
        size = np.dtype(item.dtype).itemsize
        data = frames * min(item.edge, rows) * min(item.edge, columns)
        frame = rows * columns
        maps = integrations * frame
        linear = 2 if "linearity" in self.overrides else 1
        masks = 3 if size != 2 or "bad_pixels" in self.overrides else 1
        region = data * (size * (1 + linear) + masks) + 60 * min(item.edge, rows) * min(item.edge, columns)
        return Memory(
            prepare=BASE + 2 * data * (size + 1) + 24 * frames * columns + 8 * frame,
            region=BASE + region,
            reduce=BASE + (5 if self.features else 1) * 60 * maps,
        )

    def _open(self, item: Item) -> Opened:
        with inline():
            return opened(item, self.overrides)

    def prepare(self, item: Item, context: Context) -> list[Prepared]:
        """Check the exposure, and measure the offsets and the noise of its integrations."""
        found = self._open(item)
        with inline():
            check_exposure(found.ramp)
            detector = found.detector
            measured = known_offsets(found.described, found.ramp, detector, self.overrides)
            prior = None
            if self.history is not None:
                prior = prior_of(self.history, Path(item.path), found.ramp, detector, self.detector)
            return prepare_all(found.linear, detector, self.settings, measured, prior)

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        """Search one region."""
        found = self._open(item)
        place = region_of(item, region)
        with context.reading():
            stored = found.stored(place)
            flags = found.flags(place, stored)
        context.saw(stored)
        data = found.counts(stored, place)
        p = prepared[place.integration]
        limits = limits_of(found.maps(prepared), p, place, flags)
        result = search_region(data, p, place, limits, features=self.features)
        return pack(result)

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Find the events of the exposure, and write them and its maps."""
        found = self._open(item)
        regions = [unpack(r) for r in results]
        with inline():
            detection = finish(regions, prepared, found.detector, self.settings, found.read)
        context.extra["events"] = {str(k): int(n) for k, n in detection.events["type"].value_counts().items()}
        with context.writing():
            write_result(
                target, item.path, found.ramp, detection, self.settings, self.overrides,
                features=self.features, name=self.detector,
            )  # fmt: skip

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Put the events of all exposures together."""
        write_catalog([(item.name, folder / "detections.parquet") for item, folder in products], target)


#: Memory of a unit beside arrays: objects, tables of the kernels [byte].
BASE = 24 * 2**20


def region_of(item: Item, index: int) -> Region:
    """One of :func:`fmbdask.regions.tile_regions`, without the others."""
    _, _, rows, columns = item.shape
    wide, high = -(-columns // item.edge), -(-rows // item.edge)
    integration, place = divmod(index, wide * high)
    y, x = (n * item.edge for n in divmod(place, wide))
    return Region(integration, y, min(y + item.edge, rows), x, min(x + item.edge, columns))


def pack(result: RegionResult) -> RegionResult:
    """Make a result small: maps of whole numbers as such."""
    maps: dict[str, Any] = {name: _packed(values) for name, values in result.maps.items()}
    return replace(result, maps=maps)


def unpack(result: RegionResult) -> RegionResult:
    """Inverse of :func:`pack`, bit by bit."""
    return replace(result, maps={name: values.astype(np.float32) for name, values in result.maps.items()})


def _packed(values: NDArray[np.float32]) -> NDArray[Any]:
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int16)
    same = whole.astype(np.float32).view(np.uint32) == np.ascontiguousarray(values).view(np.uint32)
    return whole if same.all() else np.ascontiguousarray(values)
