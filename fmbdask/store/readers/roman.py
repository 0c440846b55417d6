"""Roman Wide Field Instrument exposures of level 1, in ASDF.

Source: public schemas ``rad`` (wfi_science_raw 1.0.0 to 2.2.0: data (resultants, y, x), amp33, resultantdq;
exposure: read_pattern, frame_time) and the romancal documentation (border of 4 reference pixels; 32 outputs
side by side; amp33 is the reference output, 128 columns wide).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...regions import Region
from .asdf_blocks import BlockArray, find_array, read_tree
from .files import Stamp, ramp_shape, working_dtype
from .fits_header import default_exposure, number
from .protocol import Exposure, RampSource

BORDER = 4
#: Columns of the whole detector, and the outputs that read them.
COLUMNS, OUTPUTS = 4096, 32
DO_NOT_USE, SATURATED = 1, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class RomanRamp(Exposure):
    """The resultants of one exposure, or its reference output.

    Attributes
    ----------
    data : BlockArray
        The resultants (frame, y, x).
    quality : BlockArray or None
        Quality flags of the resultants.
    """

    data: BlockArray
    quality: BlockArray | None = None

    @property
    def stores_flags(self) -> bool:
        """Whether there are quality flags."""
        return self.quality is not None

    def read(self, region: Region) -> NDArray[Any]:
        """Read one region: (T, ny, nx), C-contiguous."""
        return np.array(self.data.values()[:, region.y, region.x], self.dtype, order="C")

    def read_flags(self, region: Region) -> NDArray[np.uint8]:
        """Read saturated (2) as it is and any other flag, such as of missing data, as do-not-use (1)."""
        flags = super().read_flags(region)
        if self.quality is not None:
            stored = self.quality.values()[:, region.y, region.x]
            flags |= stored & np.uint8(SATURATED)
            flags |= ((stored & ~np.uint8(SATURATED)) != 0).astype(np.uint8) * np.uint8(DO_NOT_USE)
        return flags


def open_roman(path: str, stamp: Stamp) -> RomanRamp:
    """Open a Roman exposure of level 1, reading its tree only.

    Raises
    ------
    InputError
        If the tree has not the layout of the schema, or an array does not fit.
    """
    tree, blocks = read_tree(path, stamp)
    roman = tree.get("roman")
    if not isinstance(roman, Mapping) or "data" not in roman:
        raise InputError(f"{path} has no roman.data in its ASDF tree: give a Roman exposure of level 1")
    data = find_array(roman["data"], f"{path}[roman.data]", path, stamp, blocks)
    full = ramp_shape(data.shape, f"{path}[roman.data]")
    if len(data.shape) != 3:
        raise InputError(f"{path}[roman.data] has shape {data.shape}: give (resultant, y, x)")
    frame_time, times, counts = _timing(roman, path, full[1])
    attrs = {**default_exposure(path), "units": "DN", "reference_border": [BORDER] * 4}
    if counts.max() > 1:
        attrs["read_interval"] = frame_time
    instrument = _at(roman, "meta", "instrument")
    if name := str(instrument.get("name") or ""):
        attrs["instrument"] = name
    if full[3] == COLUMNS:
        attrs["amplifiers"], attrs["amplifier_layout"] = OUTPUTS, "contiguous"
    quality = None
    if roman.get("resultantdq") is not None:
        where = f"{path}[roman.resultantdq]"
        quality = find_array(roman["resultantdq"], where, path, stamp, blocks)
        if quality.shape != data.shape or quality.dtype[1:] != "u1":
            raise InputError(
                f"{where} has shape {quality.shape} and type {quality.dtype} where roman.data has shape "
                f"{data.shape}: give bytes of that shape or remove it"
            )
    ramp = RomanRamp(
        path=path,
        stamp=stamp,
        shape=full,
        dtype=working_dtype(np.dtype(data.dtype), f"{path}[roman.data]"),
        attrs=attrs,
        read_times=times,
        reads_per_frame=counts,
        reference_output=_reference_output(roman, path, stamp, blocks, full, times, counts, attrs),
        data=data,
        quality=quality,
    )
    return ramp


def _at(tree: Any, *names: str) -> Mapping[str, Any]:
    """Descend into mappings; empty where there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _timing(
    roman: Mapping[str, Any], path: str, frames: int
) -> tuple[float, NDArray[np.float64], NDArray[np.int64]]:
    """Time between reads, mean time of those of each resultant [s], and how many they are.

    Read n (from 1) ends n frame times after the reset, as everywhere here.
    """
    exposure = _at(roman, "meta", "exposure")
    pattern = exposure.get("read_pattern")
    where = f"{path}[roman.meta.exposure.read_pattern]"
    if not isinstance(pattern, list) or len(pattern) != frames:
        length = len(pattern) if isinstance(pattern, list) else "no"
        raise InputError(
            f"{where} holds {length} resultants where roman.data has {frames}: mend the metadata"
        )
    reads = [r for resultant in pattern if isinstance(resultant, list) for r in resultant]
    sound = all(isinstance(resultant, list) and resultant for resultant in pattern)
    if not sound or any(type(r) is not int for r in reads) or min(reads) < 1 or reads != sorted(set(reads)):
        raise InputError(f"{where} must list reads from 1 upwards, each once: mend the metadata")
    for k, resultant in enumerate(pattern):
        if np.any(np.diff(resultant) != 1):
            raise InputError(
                f"{where} averages reads {resultant} in resultant {k + 1}: averages of reads that do not "
                "follow each other are not supported"
            )
    frame_time = number(exposure, f"{path}[roman.meta.exposure]", "frame_time")
    if frame_time is None:
        raise InputError(f"{path} lacks roman.meta.exposure.frame_time: mend the metadata, it is in seconds")
    times = frame_time * np.array([np.mean(resultant) for resultant in pattern])
    return frame_time, times, np.array([len(resultant) for resultant in pattern], np.int64)


def _reference_output(
    roman: Mapping[str, Any],
    path: str,
    stamp: Stamp,
    blocks: list[Any],
    full: tuple[int, int, int, int],
    times: NDArray[np.float64],
    counts: NDArray[np.int64],
    attrs: Mapping[str, Any],
) -> RampSource | None:
    if roman.get("amp33") is None:
        return None
    where = f"{path}[roman.amp33]"
    data = find_array(roman["amp33"], where, path, stamp, blocks)
    if len(data.shape) != 3 or data.shape[0] != full[1]:
        raise InputError(
            f"{where} has shape {data.shape} where roman.data has {full[1]} resultants: give as many"
        )
    return RomanRamp(
        path=path,
        stamp=stamp,
        shape=ramp_shape(data.shape, where),
        dtype=working_dtype(np.dtype(data.dtype), where),
        attrs=attrs,
        read_times=times,
        reads_per_frame=counts,
        data=data,
    )
