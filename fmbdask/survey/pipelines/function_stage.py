"""Stages made of a user's function: regions are read and labelled, results checked and written."""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
import zarr
from numpy.typing import NDArray

from ...regions import Region
from ...store.layout import create_array
from ...store.readers.files import DIMS
from ...store.run.items import Item
from ..config import SurveyConfig
from ..planning.inputs import members
from .declare import Declaration, Output
from .describing import region_of
from .inline import inline
from .opened import open_item, open_path
from .protocol import Context, Memory

PRODUCTS = "products.zarr"
#: Memory of a unit beside arrays [byte].
BASE = 16 * 2**20
#: Columns of the list of products.
LISTED = pa.schema(
    {
        "product": pa.string(), "variable": pa.string(), "dims": pa.list_(pa.string()),
        "shape": pa.list_(pa.int64()), "dtype": pa.string(), "unit": pa.string(),
    }
)  # fmt: skip


class FunctionStage:
    """What both kinds of stages share; a :class:`~fmbdask.survey.pipelines.protocol.Stage`.

    Parameters
    ----------
    declaration : Declaration
    config : SurveyConfig
    number : int
        Which stage of the pipeline it is.
    earlier : sequence of str
        Names of the stages before it.
    """

    def __init__(
        self, declaration: Declaration, config: SurveyConfig, number: int, earlier: Sequence[str]
    ) -> None:
        self.declaration, self.number, self.earlier = declaration, number, tuple(earlier)
        self.overrides = config.exposure.given()
        self.options = config.options
        wants = inspect.signature(declaration.function).parameters
        self.wants_products = "products" in wants

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.declaration.name

    @property
    def resources(self) -> Mapping[str, float]:
        """What a worker must offer."""
        return self.declaration.resources

    def layouts(self) -> list[tuple[str, Sequence[int], Sequence[int] | None]]:
        """Outputs whose chunks or shards are given: name, chunks, shards."""
        return [
            (name, output.chunks or (1, 1), output.shards)
            for name, output in self.declaration.outputs.items()
            if output.chunks or output.shards
        ]

    def memory(self, item: Item) -> Memory:
        """Bound the memory of the units of an item by its regions, outputs and what the function declares."""
        rows, columns = (min(item.edge, n) for n in item.shape[-2:])
        size = np.dtype(item.dtype).itemsize
        region = rows * columns * int(np.prod(item.shape[:-2])) * size
        if len(item.shape) == 4:
            region //= item.shape[0]
        outputs = sum(
            2 * np.dtype(o.dtype).itemsize * int(np.prod(_lengths(o, item, rows, columns)))
            for o in self.declaration.outputs.values()
        )
        return Memory(BASE, BASE + 2 * region + outputs + self.declaration.memory, BASE + 3 * outputs)

    def prepare(self, item: Item, context: Context) -> Any:
        """Nothing is shared by the regions."""
        return None

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> Any:
        """Call the function with one region; returns its arrays by name."""
        place = region_of(item.shape, item.edge, region)
        with context.reading():
            data = self.region(item, place, context)
            extra = {"products": self._products(place, context)} if self.wants_products else {}
        with inline():
            found = self.declaration.function(data, **extra, **self.options)
            return self._checked(found, item, place)

    def region(self, item: Item, place: Region, context: Context) -> xr.DataArray:
        """Read and label one region."""
        raise NotImplementedError

    def _products(self, place: Region, context: Context) -> dict[str, xr.Dataset]:
        """The region's part of what earlier stages made: of this item, else of all together."""
        found = {}
        for name in self.earlier:
            for key in (name, f"{name}.run"):
                path = context.products.get(key, Path()) / PRODUCTS
                if key in context.products and path.is_dir():
                    opened = xr.open_zarr(str(path), consolidated=False)
                    window: dict[str, slice] = {"y": place.y, "x": place.x}
                    if "integration" in opened.dims:
                        window["integration"] = slice(place.integration, place.integration + 1)
                    with inline():
                        found[name] = opened.isel(window).load()
                    break
        return found

    def _checked(self, found: Any, item: Item, place: Region) -> dict[str, NDArray[Any]]:
        """Bring what the function returned into the declared axes and types.

        Raises
        ------
        ValueError, TypeError
            If it is not what was declared: a mistake in the function.
        """
        declared = self.declaration.outputs
        if not isinstance(found, Mapping | xr.Dataset):
            raise TypeError(f"{self.name} returned {type(found).__name__}: return a mapping of arrays")
        names = {str(name) for name in (found.data_vars if isinstance(found, xr.Dataset) else found)}
        if names != set(declared):
            raise ValueError(f"{self.name} returned {sorted(names)}, but declares {sorted(declared)}")
        return {name: self._array(name, found[name], o, item, place) for name, o in declared.items()}

    def _array(self, name: str, value: Any, output: Output, item: Item, place: Region) -> NDArray[Any]:
        if isinstance(value, xr.DataArray):
            drop = [d for d in value.dims if d not in output.dims and value.sizes[d] == 1]
            value = value.squeeze(drop)
            if set(value.dims) != set(output.dims):
                raise ValueError(
                    f"{self.name} returned {name} with dims {value.dims}, but declares {tuple(output.dims)}"
                )
            value = value.transpose(*output.dims).values
        array = np.asarray(value)
        lengths = _lengths(output, item, *place.shape)
        if "integration" in output.dims:
            lengths[list(output.dims).index("integration")] = 1
        if array.shape != tuple(lengths):
            raise ValueError(
                f"{self.name} returned {name} of shape {array.shape} for a region that needs {tuple(lengths)}"
            )
        return array.astype(output.dtype, casting="same_kind", copy=False)

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Write the regions one after the other into the arrays of the item."""
        if not item.regions[self.number]:
            return
        with context.writing():
            attrs = {"stage": self.name, "exposure": item.name}
            group = zarr.create_group(str(target / PRODUCTS), zarr_format=3, attributes=attrs)
            arrays = {n: self._create(group, n, o, item) for n, o in self.declaration.outputs.items()}
        for number, result in enumerate(results):
            place = region_of(item.shape, item.edge, number)
            with context.writing():
                for name, values in result.items():
                    dims = self.declaration.outputs[name].dims
                    at = {"y": place.y, "x": place.x}
                    at["integration"] = slice(place.integration, place.integration + 1)
                    arrays[name][tuple(at.get(d, slice(None)) for d in dims)] = values

    def _create(self, group: zarr.Group, name: str, output: Output, item: Item) -> Any:
        shape = _lengths(output, item, *item.shape[-2:])
        inner = output.chunks or output.shards or (item.edge, item.edge)
        leading = [1 if d == "integration" else n for d, n in zip(output.dims, shape, strict=True)][:-2]
        chunks = [
            *leading,
            *(min(c, n) if not output.shards else c for c, n in zip(inner, shape[-2:], strict=True)),
        ]
        shards = None if output.shards is None else [*leading, *output.shards]
        return create_array(
            group, name, shape, output.dtype, chunks, output.dims, {"units": output.unit}, shards=shards,
            fill=output.fill,
        )  # fmt: skip

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """List the products, and hand on those of a stack for the stages that follow."""
        rows = []
        for item, folder in products:
            if not (folder / PRODUCTS).is_dir():
                continue
            if len(item.shape) == 5:
                shutil.copytree(folder / PRODUCTS, target / PRODUCTS)
            for name, output in self.declaration.outputs.items():
                shape = _lengths(output, item, *item.shape[-2:])
                rows.append((item.name, name, list(output.dims), shape, output.dtype, output.unit))
        names = ("product", "variable", "dims", "shape", "dtype", "unit")
        kinds = (
            pa.string(),
            pa.string(),
            pa.list_(pa.string()),
            pa.list_(pa.int64()),
            pa.string(),
            pa.string(),
        )
        columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[]] * len(names)
        arrays = [pa.array(c, k) for c, k in zip(columns, kinds, strict=True)]
        pq.write_table(pa.table(arrays, names=list(names)), target / "products.parquet")


def _lengths(output: Output, item: Item, rows: int, columns: int) -> list[int]:
    known = dict(zip(DIMS, (*item.shape[-4:-2], rows, columns), strict=True)) | dict(output.sizes)
    return [known[d] for d in output.dims]


class ExposureStage(FunctionStage):
    """A function of regions of each exposure by itself."""

    def region(self, item: Item, place: Region, context: Context) -> xr.DataArray:
        """(integration, frame, y, x) with one integration, and the labels of :func:`fmbdask.open_ramp`."""
        found = open_item(item, self.overrides)
        frames = self.declaration.frames
        wanted = None if frames is None else [range(item.shape[1])[f] for f in frames]
        stored = found.stored(place, wanted)
        context.saw(stored)
        flags = found.flags(place, stored)
        if flags is not None and wanted is not None and len(flags) != len(wanted):
            flags = flags[wanted]
        which = np.arange(item.shape[1]) if wanted is None else np.array(wanted)
        coords: dict[str, Any] = {
            "integration": [place.integration],
            "frame": which,
            "y": np.arange(place.y0, place.y1),
            "x": np.arange(place.x0, place.x1),
        }
        for name in ("read_times", "reads_per_frame"):
            own = found.ramp.coords[name]
            coords[name] = ("frame", own.values[which], own.attrs)
        if flags is not None:
            coords["flags"] = (DIMS, flags[None], {"units": "1"})
        for name, values in found.frame_maps.items():
            coords[name] = (("y", "x"), values[place.y, place.x], found.ramp.coords[name].attrs)
        counts = found.counts(stored, place)
        return xr.DataArray(counts[None], coords, DIMS, "ramp", dict(found.ramp.attrs))


class StackStage(FunctionStage):
    """A function of regions of all exposures together."""

    def region(self, item: Item, place: Region, context: Context) -> xr.DataArray:
        """(exposure, integration, frame, y, x); frames that are not asked for are not kept."""
        paths = members(item.path)
        frames = self.declaration.frames
        integrations = item.shape[1]
        out: NDArray[Any] | None = None
        for number, path in enumerate(paths):
            found = open_path(path, self.overrides, mark=(item.size, item.mtime_ns))
            total = found.described.source.shape[1]
            wanted = None if frames is None else [range(total)[f] for f in frames]
            for i in range(integrations):
                at = Region(i, place.y0, place.y1, place.x0, place.x1)
                stored = found.stored(at, wanted)
                context.saw(stored)
                counts = found.counts(stored, at)
                if out is None:
                    out = np.empty((len(paths), integrations, *counts.shape), item.dtype)
                if counts.shape != out.shape[2:]:
                    raise ValueError(
                        f"{path} has {total} frames, others of the stack {out.shape[2]}: say which frames "
                        "are wanted (frames=...)"
                    )
                out[number, i] = counts
        coords = {
            "exposure": [Path(path).name for path in paths],
            "y": np.arange(place.y0, place.y1),
            "x": np.arange(place.x0, place.x1),
        }
        return xr.DataArray(out, coords, ("exposure", *DIMS), "stack", {"units": "DN"})
