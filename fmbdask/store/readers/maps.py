"""Maps beside a ramp (bad pixels, gain, read noise, ...): known by path and shape, read when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from .containers import check_blosc, opened
from .files import stamp_of


@dataclass(frozen=True)
class FileMap:
    """An array in a file that is read when something asks for its numbers.

    ``numpy.asarray(file_map)`` reads it; the object itself is small and pickles.

    Attributes
    ----------
    path : str
        The file or store.
    shape : tuple of int
        Shape of the array.
    dtype : str
        Type of the values that it gives.
    member : str
        FITS extension number, or the name of the array inside a Zarr store or HDF5 file; empty for a file of
        one array.
    kind : {"fits", "npy", "zarr", "hdf5"}
        Format of the file.
    bit : int
        If not 0, the map is boolean: whether any of these bits is set.
    """

    path: str
    shape: tuple[int, ...]
    dtype: str
    member: str = ""
    kind: str = "fits"
    bit: int = 0

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        try:
            values = self._values()
        except Exception as error:  # readers and codecs raise whatever they stumble over
            raise InputError(
                f"the map {self.path} cannot be read ({error}): get a fresh copy of it"
            ) from error
        if self.bit:
            values = (values & self.bit) != 0
        return np.array(values, dtype or self.dtype)

    def _values(self) -> NDArray[Any]:
        if self.kind == "npy":
            return np.asarray(np.load(self.path, allow_pickle=False))
        if self.kind == "zarr":
            import zarr

            array = zarr.open_array(f"{self.path}/{self.member}", mode="r")
            check_blosc(self.path, self.member, array, (0,) * len(self.shape), self.shape)
            return np.asarray(array[...])
        if self.kind == "hdf5":
            return np.asarray(opened(self.path, stamp_of(self.path))[self.member][...])
        from astropy.io import fits

        with fits.open(self.path, memmap=False) as hdus:
            return np.asarray(hdus[int(self.member)].data)
