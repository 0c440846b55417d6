"""Exposures as labelled, lazy arrays."""

from __future__ import annotations

import os
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed
from numpy.typing import NDArray

from ..regions import Region, edge_for
from .ingest import ingest, verify
from .overrides import Described, open_described
from .readers import RampSource
from .readers.files import DIMS, stamp_of
from .readers.maps import FileMap
from .writer import RampWriter

__all__ = ["RampWriter", "chunk_edge", "ingest", "label", "open_ramp", "verify"]

MAP_UNITS = {
    "gain_map": "electron/DN",
    "read_noise_map": "electron",
    "saturation_map": "DN",
    "bad_pixel": "1",
}


def open_ramp(path: str | os.PathLike[str], **overrides: Any) -> xr.DataArray:
    """Open an exposure of any format as a lazy labelled array; reads headers only.

    Parameters
    ----------
    path : path
        A FITS file (cube, JWST ``_uncal`` or ``_ramp``, HST WFC3/IR ``_raw`` or ``_ima``, one frame per
        extension, a Kepler or TESS target pixel file; also compressed, ``.gz`` or ``.fz``), a ``.npy`` file,
        a Zarr store, an HDF5 file with a dataset ``ramp`` or ``data``, or a Roman level 1 exposure in ASDF.
    extension : int or str, optional
        Which of several: number or name of a FITS extension, column of a target pixel file, name of an array
        in HDF5 or Zarr.
    accumulate : bool
        Integrate the fluxes of a target pixel file over time.
    gain : float or path, optional
        [electron/DN], a number or a map (FITS or ``.npy``, shape of a frame).
    read_noise : float or path, optional
        Noise of one read [electron; DN without a gain], a number or a map.
    saturation : float or path, optional
        Level at which a pixel is full [DN], a number or a map.
    bad_pixels : path, optional
        Map that is not zero where a pixel is never to be used.
    linearity : path, optional
        Coefficients (K, y, x) of the polynomial that makes counts linear, lowest power first.
    reference_border : int or (bottom, top, left, right), optional
        Reference pixels at the edges; 0 for none.
    amplifiers : int, optional
        Number of output amplifiers along a row.
    amplifier_layout : {"contiguous", "interleaved"}, optional
        Amplifiers side by side, or taking turns pixel by pixel.
    frame_time : float, optional
        Time from one frame to the next [s].

    Returns
    -------
    xarray.DataArray
        Named ``ramp``, dimensions (integration, frame, y, x), uint16, float32 or float64, one dask chunk per
        integration and square of pixels with all frames. Coordinates: ``read_times`` (frame) [s; the
        attribute ``units`` is ``frame`` and the values are frame numbers where no frame time is known],
        ``reads_per_frame`` (frame), and where there are such: ``flags`` (integration, frame, y, x; bit 1 do
        not use, bit 2 saturated), ``bad_pixel``, ``gain_map``, ``read_noise_map``, ``saturation_map``,
        ``linearity_0`` ... (y, x). Attributes: ``units, exposure, source`` and, as far as known, ``gain,
        read_noise, saturation, reference_border, amplifiers, amplifier_layout, instrument, notes``, and
        ``read_interval`` [s] between the reads that are averaged into a frame;
        ``accumulating`` is False where the frames are fluxes and no ramp.

    Raises
    ------
    InputError
        If the file, a map or a value cannot be used; one sentence that says why.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/dark.npy"
    >>> np.save(path, np.zeros((10, 64, 48), np.uint16))
    >>> ramp = open_ramp(path, gain=1.5, frame_time=10.0)
    >>> ramp.sizes["frame"], ramp.dtype, ramp.attrs["exposure"], ramp.attrs["gain"]
    (10, dtype('uint16'), 'dark', 1.5)
    >>> ramp.read_times.values[:3]
    array([10., 20., 30.])
    """
    return label(open_described(path, **overrides))


def label(described: Described) -> xr.DataArray:
    """Make the lazy labelled array of a described exposure."""
    source = described.source
    frames = source.shape[1]
    times = described.read_times
    coords: dict[str, Any] = {
        "read_times": (
            "frame",
            np.arange(frames, dtype=np.float64) if times is None else times,
            {"units": "frame" if times is None else "s"},
        ),
        "reads_per_frame": ("frame", source.reads_per_frame, {"units": "1"}),
    }
    if source.has_flags:
        coords["flags"] = (DIMS, _lazy(source, flags=True), {"units": "1"})
    for name, file_map in described.maps.items():
        if name == "linearity":
            coefficients = _lazy_map(file_map)
            for k in range(file_map.shape[0]):
                coords[f"linearity_{k}"] = (DIMS[2:], coefficients[k], {"units": f"DN^{1 - k}"})
        else:
            coords[name] = (DIMS[2:], _lazy_map(file_map), {"units": MAP_UNITS[name]})
    return xr.DataArray(_lazy(source), coords, DIMS, "ramp", dict(described.attrs))


class _Window:
    """Lets dask slice a source: small, pickles, reads when it is indexed."""

    def __init__(self, source: RampSource, flags: bool) -> None:
        self.source = source
        self.flags = flags
        self.shape = source.shape
        self.ndim = 4
        self.dtype = np.dtype(np.uint8) if flags else source.dtype

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        asked = [k if isinstance(k, slice) else slice(k, k + 1) for k in key]
        wanted = [range(n)[k] for k, n in zip(asked, self.shape, strict=True)]
        spans = [(min(r, default=0), max(r, default=-1) + 1) for r in wanted]
        integrations, frames, (y0, y1), (x0, x1) = spans
        read = self.source.read_flags if self.flags else self.source.read
        blocks = [read(Region(i, y0, y1, x0, x1))[slice(*frames)] for i in range(*integrations)]
        # one block is the rule: it is passed on without a copy
        block = blocks[0][None] if len(blocks) == 1 else np.stack(blocks)
        return np.asarray(block[tuple(0 if isinstance(k, int) else slice(None, None, k.step) for k in key)])


def _lazy(source: RampSource, flags: bool = False) -> da.Array:
    """One chunk per region, one read per chunk, the same name for the same file."""
    integrations, frames, rows, columns = source.shape
    edge = chunk_edge(source)
    chunks = ((1,) * integrations, (frames,), _cut(rows, edge), _cut(columns, edge))
    window = _Window(source, flags)
    name = "flags-" if flags else "ramp-"
    lazy: da.Array = da.from_array(
        window,
        chunks=chunks,
        name=name + tokenize(type(source).__name__, source.path, tuple(source.stamp), source.shape, edge),
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0, 0), window.dtype),
    )
    return lazy


def chunk_edge(source: RampSource) -> int:
    """Edge of the chunks of an exposure [pixels]: the file's own where all frames lie together."""
    own = source.edge
    chosen = edge_for(source.shape[1], source.dtype.itemsize)
    if own is None or own >= chosen:
        return own if own is not None and own <= 2 * chosen else chosen
    return own * (chosen // own)


def _cut(size: int, edge: int) -> tuple[int, ...]:
    return tuple(min(edge, size - start) for start in range(0, size, edge))


def _lazy_map(file_map: FileMap) -> da.Array:
    """One chunk: maps are small and wanted whole."""
    key = f"map-{tokenize(file_map, tuple(stamp_of(file_map.path)))}"
    read = delayed(np.asarray, pure=True)(file_map, dask_key_name=key)
    meta = np.empty((0,) * len(file_map.shape), file_map.dtype)
    shape, dtype = file_map.shape, file_map.dtype
    lazy: da.Array = da.from_delayed(read, shape, dtype, meta=meta)
    return lazy
