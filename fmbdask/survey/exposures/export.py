"""Results for other tools: NumPy files, a flagged ramp, regions and tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import xarray as xr
from fmbdask_kernels.temporal import PLANES

from ...errors import InputError
from ...ramps.corrected import corrected, group_flags, pixel_flags
from ...ramps.detect import Detection
from ...store.catalog import read_table
from ...store.exports.ds9 import write_ds9
from ...store.exports.groupdq import timing, write_ramp_file
from ...store.exports.numpy import write_features, write_mask, write_processed
from ...store.exports.tables import FORMATS, write_astropy

#: Tables of a result by the name they are asked for.
TABLES = {"events": "detections", "steps": "steps"}


def colours() -> dict[str, str]:
    """Colour of each kind of event, the same as in figures."""
    from ...viz.style import KINDS

    return {kind.name: kind.colour for kind in KINDS}


@dataclass(frozen=True)
class Exports:
    """What `ramps detect` writes for other tools, beside its own result."""

    numpy: bool = False
    groupdq: bool = False
    ds9: bool = False


def check_exports(wanted: Exports, ramp: xr.DataArray) -> None:
    """Refuse what cannot be written before the work begins.

    Raises
    ------
    InputError
        If the ramp does not fit a JWST ramp file.
    """
    if wanted.groupdq:
        timing(ramp)


def write_exports(folder: Path, stem: str, ramp: xr.DataArray, found: Detection, wanted: Exports) -> None:
    """Write the exports of one exposure into the folder of its result.

    Parameters
    ----------
    folder
        Where they go: `prediction_mask.npy`, `<stem>_processed.npy` and `<stem>_temporal.npz`;
        `<stem>_ramp.fits`; `detections.reg`.
    stem
        Name of the exposure.
    ramp
        The ramp that was searched.
    found
        What was found, with every feature where NumPy files are wanted.
    wanted
    """
    if wanted.numpy:
        write_mask(folder / "prediction_mask.npy", found.maps["mask"])
        write_processed(folder / f"{stem}_processed.npy", corrected(ramp, found.prepared))
        names = [name for name in PLANES if name in found.maps]
        write_features(folder / f"{stem}_temporal.npz", found.maps, names)
    if wanted.groupdq:
        write_ramp_file(
            folder / f"{stem}_ramp.fits",
            corrected(ramp, found.prepared, fill=None),
            group_flags(ramp, found.prepared, found.steps),
            pixel_flags(ramp, found.prepared, found.events),
        )
    if wanted.ds9:
        write_ds9(folder / "detections.reg", found.events, colours=colours())


def export_result(
    result: str | Path,
    file_format: str,
    *,
    table: str = "events",
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a table of a result in another format.

    Parameters
    ----------
    result
        Folder that `ramps detect` wrote.
    file_format
        `csv`, `votable`, `ecsv` or `ds9`.
    table
        `events`, or `steps`: the pixels of cosmic rays and snowballs.
    out
        The file; beside the table by default.
    overwrite
        Replace a file that is there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the folder holds no result, the format is unknown, or regions of steps are wanted.
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    name = TABLES[table]
    source = Path(result) / f"{name}.parquet"
    if not source.exists():
        raise InputError(
            f"{result}: {source.name} is missing: name a folder that `fmbdask ramps detect` wrote"
        )
    content = read_table(source)
    if file_format == "ds9":
        if table != "events":
            raise InputError(f"{source}: DS9 regions show events, not {table}: leave out --table")
        target = Path(out) if out else source.with_suffix(".reg")
        return write_ds9(target, content, colours=colours(), overwrite=overwrite)
    suffix = FORMATS[file_format][0] if file_format in FORMATS else ""
    target = Path(out) if out else source.with_suffix(suffix)
    return write_astropy(target, content, file_format, overwrite=overwrite)
