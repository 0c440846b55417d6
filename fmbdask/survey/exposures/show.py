"""Figures of one result, written beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from fmbdask.errors import FmbdaskError, InputError
from fmbdask.ramps.examples import examples
from fmbdask.store.catalog import read_table
from fmbdask.store.products import open_products
from fmbdask.store.ramps import open_ramp
from fmbdask.viz import ramps as draw

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result:
    """What `ramps detect` wrote for one exposure."""

    name: str
    events: pd.DataFrame
    steps: pd.DataFrame
    maps: xr.Dataset
    source: Path | None

    @property
    def configuration(self) -> dict[str, Any]:
        """Settings of the detection, and what overrode the header of the exposure."""
        return dict(self.events.attrs.get("configuration", {}))


def read_result(folder: str | Path) -> Result:
    """Open a result: the table of events with its units, and the maps, lazily.

    Raises
    ------
    InputError
        The folder does not hold a result of `ramps detect`.
    """
    folder = Path(folder)
    parquet, steps, products = (
        folder / name for name in ("detections.parquet", "steps.parquet", "products.zarr")
    )
    for path in (parquet, steps, products):
        if not path.exists():
            raise InputError(
                f"{folder}: {path.name} is missing: name a folder that `fmbdask ramps detect` wrote"
            )
    maps = open_products(products)
    source = maps.attrs.get("source")
    return Result(folder.name, read_table(parquet), read_table(steps), maps, Path(source) if source else None)


def show_result(folder: str | Path, *, exposure: str | Path | None = None) -> list[Path]:
    """Draw the figures of a result and write them as PNG files into its folder.

    Parameters
    ----------
    folder
        Folder that `ramps detect` wrote.
    exposure
        The exposure, where it is no longer where it was read from.

    Returns
    -------
    list of Path
        `overview.png`, `counts.png` and, where the exposure can be read, `gallery.png`.
    """
    folder = Path(folder)
    paths = []
    for name, figure in figures(read_result(folder), exposure=exposure):
        path = folder / f"{name}.png"
        figure.savefig(path, bbox_inches="tight")
        paths.append(path)
    return paths


def figures(result: Result, *, exposure: str | Path | None = None) -> Iterator[tuple[str, Figure]]:
    """Figures of a result by name; the gallery only where the exposure can be read."""
    yield "overview", draw.overview(result.maps["rate"].load(), result.events, title=result.name)
    ramp = ramp_of(result, exposure)
    frames = ramp.sizes["frame"] if ramp is not None else int(result.events["first_frame"].max() or 0) + 1
    yield "counts", draw.counts(result.events, frames=frames, title=result.name)
    if ramp is not None and len(result.events):
        shown = examples(ramp, result.events, result.steps, result.configuration.get("detection"))
        yield "gallery", draw.gallery(shown, title=result.name)


def ramp_of(result: Result, exposure: str | Path | None) -> xr.DataArray | None:
    """The exposure of a result as it was opened for detection, lazily.

    None where it was not named and is no longer in its place.
    """
    overrides = result.configuration.get("overrides", {})
    if exposure is not None:
        return open_ramp(exposure, **overrides)
    try:
        return open_ramp(result.source, **overrides) if result.source else None
    except (FmbdaskError, OSError):
        return None
