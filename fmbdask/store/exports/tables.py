"""Tables of results as CSV, VOTable or ECSV, with units and descriptions where there is room."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ...atomic import atomic
from ...errors import InputError

if TYPE_CHECKING:
    from astropy.table import Table

#: Formats of tables: file name ending and the name astropy knows it by.
FORMATS = {"csv": (".csv", "ascii.csv"), "votable": (".vot", "votable"), "ecsv": (".ecsv", "ascii.ecsv")}
#: What the columns of events and steps hold.
DESCRIPTIONS = {
    "event_id": "number of the event in its exposure, from 0",
    "type": "cosmic_ray, telegraph_noise or snowball",
    "integration": "integration, from 0",
    "y": "row, pixel centres are whole numbers, from 0",
    "x": "column, pixel centres are whole numbers, from 0",
    "first_frame": "first frame that holds the new level, from 0",
    "frame": "first frame that holds the new level of the pixel, from 0",
    "time": "mean time of the reads of that frame since the reset",
    "peak_y": "row of the strongest pixel, from 0",
    "peak_x": "column of the strongest pixel, from 0",
    "amplitude": "size of the step, of the strongest pixel or of the pixel",
    "mean_intensity": "sum of the steps over the number of pixels",
    "max_intensity": "largest step of a pixel",
    "spatial_extent": "number of pixels",
    "significance": "size over noise",
    "confidence": "probability that the event is real",
    "n_steps": "number of steps in all pixels",
    "n_saturated": "number of pixels that saturated",
    "radius": "radius of a snowball with its halo",
    "core_radius": "radius of the saturated core",
    "circularity": "axis ratio",
    "halo_amplitude": "size of the step at the edge of the core",
    "halo_scale": "distance over which the halo falls by e",
    "expansion": "growth of the radius of a snowball in the frames after its first one",
    "transitions": "changes between the two levels",
    "dwell_high": "mean time in the upper level",
    "dwell_low": "mean time in the lower level",
    "duty": "share of the frames in the upper level",
    "fit_quality": "share of the variance that two levels explain",
    "found_by": "who found it: rules or network",
    "saturating": "whether the step filled the pixel: its size is a lower limit",
}


def to_astropy(table: pd.DataFrame) -> Table:
    """Make an astropy table with units and descriptions.

    Units that astropy does not know (``frame``, ``sigma``) stand in the description, in brackets.

    Parameters
    ----------
    table : DataFrame
        ``attrs["units"]`` as :func:`fmbdask.store.catalog.read_table` gives them.

    Returns
    -------
    astropy.table.Table
        Missing values are NaN; ``meta`` names the exposure and the versions, where they are known.
    """
    from astropy import units
    from astropy.table import Column, Table

    known = table.attrs.get("units", {})
    columns = []
    for name in map(str, table.columns):
        values = table[name].to_numpy()
        values = values.astype(str) if values.dtype == object else values
        description, unit = DESCRIPTIONS.get(name, name.replace("_", " ")), None
        word = known.get(name, "1")
        if word != "1":
            unit = units.Unit(word, parse_strict="silent")
            if isinstance(unit, units.UnrecognizedUnit):
                unit, description = None, f"{description} [{word}]"
        columns.append(Column(values, name=name, unit=unit, description=description))
    meta = {key: table.attrs[key] for key in ("exposure", "versions") if key in table.attrs}
    return Table(columns, meta=meta)


def write_astropy(
    path: str | os.PathLike[str], table: pd.DataFrame, file_format: str, *, overwrite: bool = False
) -> Path:
    """Write a table in a format of :data:`FORMATS`; CSV has no room for units and descriptions.

    Raises
    ------
    InputError
        If the format is not known.
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    if file_format not in FORMATS:
        raise InputError(f"{path}: format {file_format!r} is not known: choose one of {', '.join(FORMATS)}")
    _, word = FORMATS[file_format]
    content = to_astropy(table)
    if file_format == "votable":
        # VOUnits call data numbers adu; the versions have no place in a VOTable
        for column in content.itercols():
            column.unit = "adu" if column.unit == "DN" else column.unit
        content.meta = {"description": str(table.attrs.get("exposure", ""))}
    with atomic(Path(path), overwrite=overwrite) as temporary:
        content.write(temporary, format=word)
    return Path(path)
