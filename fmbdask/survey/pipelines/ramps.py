"""Ramp detection over many exposures: measure what an exposure's regions share, search them, reduce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...ramps.blocks import limits_of
from ...ramps.config import DetectionConfig
from ...ramps.detect import detect, finish, prepare_all
from ...ramps.detector import Detector
from ...ramps.devices import find_device
from ...ramps.prepare import Prepared
from ...ramps.region import RegionResult, search_region
from ...regions import Region
from ...store.checks import check_exposure
from ...store.run.items import Item
from ..config import SurveyConfig
from ..exposures.compiling import compile_kernels, tiny
from ..exposures.history import prior_of
from ..exposures.pinned import open_network
from ..exposures.results import known_offsets, write_result
from .catalog import write_catalog
from .describing import contents, described_item, region_of, shaped_item
from .inline import inline
from .opened import open_item
from .protocol import Context, Memory


class RampPipeline:
    """Ramp detection, one stage; a :class:`~fmbdask.survey.pipelines.protocol.Pipeline`.

    Its products are what :func:`fmbdask.survey.exposures.work.detect_exposure` writes, bit by bit.

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
        overrides, edge = self.config.exposure.given(), self.config.edge
        described = (described_item(p, i, overrides, edge) for i, p in enumerate(paths, first))
        return [self._with_output(item) for item in described]

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item whose shape a manifest gives."""
        return self._with_output(shaped_item(item, shape, dtype, self.config.edge))

    def _with_output(self, item: Item) -> Item:
        if item.problem:
            return item
        pixels = item.shape[0] * item.shape[2] * item.shape[3]
        return replace(item, nbytes_out=pixels * (BYTES_WITH_FEATURES if self.config.features else BYTES_OUT))

    def fingerprint(self) -> Mapping[str, Any]:
        """What the results depend on beside the inputs."""
        kept = self.config.as_json()
        maps = [v for v in self.config.exposure.given().values() if isinstance(v, str)]
        named = [*maps, *filter(None, (self.config.history,))]  # what a model holds is pinned in `detection`
        return {key: kept[key] for key in DECISIVE} | {"contents": contents(named)}

    def warm(self) -> None:
        """Load the kernels, and the network where one is asked."""
        settings = self.config.detection
        open_network(settings)
        compile_kernels()
        # with the others, nothing of a tiny ramp may be left
        detect(tiny(), DetectionConfig(**_about_network(settings)), device=self.config.device)


#: Settings that decide about the results.
DECISIVE = ("pipeline", "detection", "exposure", "history", "detector", "features")
#: Bytes that a pixel takes in the products: four maps that hardly compress; every feature.
BYTES_OUT, BYTES_WITH_FEATURES = 14, 60
#: Bytes of torch, an open network and a batch; bytes a read of the block that is searched for lines
#: (148 x 148 pixels, three images) and of one that goes through the network (128 x 128, inputs and classes).
NETWORK, LINES, EVERYWHERE = 192 * 2**20, 3 * 4 * 148**2, 8 * 4 * 128**2
#: Bytes of a pixel that come back from a GPU: planes and rates.
BYTES_BACK = 100


class RampStage:
    """The one stage of ramp detection; a :class:`~fmbdask.survey.pipelines.protocol.Stage`."""

    name = "ramps"

    def __init__(self, config: SurveyConfig) -> None:
        self.device = config.device
        self.settings: DetectionConfig = config.detection
        cuda = self.settings.model is not None and self.settings.model_device == "cuda"
        self.resources: Mapping[str, float] = {"GPU": 1} if config.device == "gpu" or cuda else {}
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
        pixels = min(item.edge, rows) * min(item.edge, columns)
        region = data * (size * (1 + linear) + masks) + 60 * pixels
        if self.device != "cpu":  # pinned buffers of two lanes, there and back
            region += 2 * (data * (size + masks) + BYTES_BACK * pixels)
        return Memory(
            prepare=BASE + 2 * data * (size + 1) + 24 * frames * columns + 8 * frame,
            region=BASE + region,
            reduce=BASE + (5 if self.features else 1) * 60 * maps + self._network(frames),
        )

    def _network(self, frames: int) -> int:
        if self.settings.model is None:
            return 0
        return NETWORK + frames * (LINES + (EVERYWHERE if self.settings.model_everywhere else 0))

    def prepare(self, item: Item, context: Context) -> list[Prepared]:
        """Check the exposure, and measure the offsets and the noise of its integrations."""
        found = open_item(item, self.overrides)
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
        found = open_item(item, self.overrides)
        place = region_of(item.shape, item.edge, region)
        with context.reading():
            stored = found.stored(place)
            flags = found.flags(place, stored)
        context.saw(stored)
        data = found.counts(stored, place)
        p = prepared[place.integration]
        limits = limits_of(found.limiting(prepared), p, place, flags)
        result = search_region(
            data, p, place, limits, features=self.features, device=find_device(self.device)
        )
        return pack(result)

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Find the events of the exposure, and write them and its maps."""
        found = open_item(item, self.overrides)
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
        asked = {} if self.settings.model is None else _about_network(self.settings)
        tables = [(item.name, folder / "detections.parquet") for item, folder in products]
        write_catalog(tables, target, about=asked)

    @property
    def light(self) -> RampStage | None:
        """The stage without the network, whose time a plan measures apart; None where none is asked."""
        if self.settings.model is None:
            return None
        found = copy(self)
        found.settings = self.settings.model_copy(update={"model": None, "model_everywhere": False})
        return found

    def finish_region(self, item: Item, prepared: Any, result: RegionResult) -> float:
        """Do what :meth:`reduce` does before it writes, with one region, as if no other pixel saw light.

        Returns
        -------
        float
            How much of the time went into filling a batch of the network, which an exposure fills [s].
        """
        found, network = open_item(item, self.overrides), open_network(self.settings)
        before = None if network is None else network.batches.tally
        with inline():
            detector = _only(found.detector, result.region)
            dark = _only(found.detector, replace(result.region, y1=result.region.y0))
            own = [
                replace(p, detector=detector if p.integration == result.region.integration else dark)
                for p in prepared
            ]
            finish([unpack(result)], own, detector, self.settings, found.read)
        return 0.0 if network is None or before is None else network.batches.filling(before)


def _about_network(settings: DetectionConfig) -> dict[str, Any]:
    """The settings of the network: which one, where it runs, and what of it counts."""
    return {name: value for name, value in settings.model_dump().items() if name.startswith("model")}


def _only(detector: Detector, region: Region) -> Detector:
    """The detector with all that is not in a region counted to its border."""
    rows, columns = detector.active
    border = (
        max(rows.start, region.y0), detector.shape[2] - min(rows.stop, region.y1),
        max(columns.start, region.x0), detector.shape[3] - min(columns.stop, region.x1),
    )  # fmt: skip
    return replace(detector, border=border)


#: Memory of a unit beside arrays: objects, tables of the kernels [byte].
BASE = 24 * 2**20


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
