"""Events of an exposure as Parquet (with units) and JSON, and the names of the folders they go to."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from ..atomic import atomic
from ..errors import InputError
from .products import plain, plain_value
from .readers.files import stem_of

TYPE_NAMES = {0: "background", 1: "cosmic_ray", 2: "telegraph_noise", 3: "snowball"}

#: Unit of each column; LEVEL stands for the unit of the ramp's amplitudes, TIME for that of its read times.
LEVEL, TIME = "level", "time"
UNITS = {
    "event_id": "1",
    "type": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "first_frame": "frame",
    "time": TIME,
    "peak_y": "pixel",
    "peak_x": "pixel",
    "amplitude": LEVEL,
    "mean_intensity": LEVEL,
    "max_intensity": LEVEL,
    "spatial_extent": "pixel",
    "significance": "sigma",
    "confidence": "1",
    "n_steps": "1",
    "radius": "pixel",
    "core_radius": "pixel",
    "circularity": "1",
    "halo_amplitude": LEVEL,
    "halo_scale": "pixel",
    "expansion": "pixel / frame",
    "n_saturated": "pixel",
    "transitions": "1",
    "dwell_high": "frame",
    "dwell_low": "frame",
    "duty": "1",
    "fit_quality": "1",
    "found_by": "1",
}
#: Unit of each column of the steps of single pixels.
STEP_UNITS = {
    "event_id": "1",
    "integration": "1",
    "y": "pixel",
    "x": "pixel",
    "frame": "frame",
    "amplitude": LEVEL,
    "significance": "sigma",
    "saturating": "1",
}
#: Columns that count: integers, though stored as floating-point where they do not apply to every kind.
COUNTS = {"spatial_extent", "peak_y", "peak_x", "n_steps", "n_saturated", "transitions"}
#: Columns of words.
WORDS = {"type", "found_by"}
#: Columns that become the centroid of a detection in JSON.
CENTROID = ("y", "x")
#: Packages whose versions may change a result.
PACKAGES = ("fmbdask", "numpy", "numba", "scipy", "xarray", "zarr", "dask", "astropy", "pandas", "pyarrow")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that may change a result."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_events(
    folder: str | os.PathLike[str],
    events: pd.DataFrame,
    *,
    exposure: str,
    configuration: Mapping[str, Any],
    level_unit: str = "DN",
    time_unit: str = "s",
    units: Mapping[str, str] | None = None,
    steps: pd.DataFrame | None = None,
    overwrite: bool = False,
) -> tuple[Path, Path]:
    """Write ``detections.parquet`` and ``detections.json``, and the steps of single pixels beside them.

    Parameters
    ----------
    folder : path
        Where the two files go; made if it is not there.
    events : DataFrame
        One row an event; ``type`` as a code or a name.
    exposure : str
        Name of the exposure.
    configuration : mapping
        Every setting that the events depend on.
    level_unit : str
        Unit of amplitudes and intensities ("DN" or "electron").
    time_unit : str
        Unit of times ("s", or "frame" without a frame time).
    units : mapping, optional
        Units of further columns.
    steps : DataFrame, optional
        One row a pixel and step of an event, written as ``steps.parquet``.
    overwrite : bool
        Whether files that are there are replaced.

    Returns
    -------
    tuple of Path
        The Parquet and the JSON file.

    Raises
    ------
    InputError
        If a column has no unit.
    OutputExistsError
        If a file exists and is not to be overwritten.
    """
    parquet, text = Path(folder) / "detections.parquet", Path(folder) / "detections.json"
    words = {LEVEL: level_unit, TIME: time_unit}
    known = {name: words.get(unit, unit) for name, unit in UNITS.items()} | dict(units or {})
    about = {"exposure": exposure, "versions": versions(), "configuration": plain(configuration)}
    content = {**about, "detections": [_detection(row) for row in events.to_dict("records")]}
    with atomic(text, overwrite=overwrite) as temporary:
        write_table(parquet, events, units=known, metadata=about, overwrite=overwrite)
        if steps is not None:
            of_steps = {name: words.get(unit, unit) for name, unit in STEP_UNITS.items()}
            target = Path(folder) / "steps.parquet"
            write_table(target, steps, units=of_steps, metadata={"exposure": exposure}, overwrite=overwrite)
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return parquet, text


def _detection(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Make the JSON form of one event: fields that do not apply to its kind are left out."""
    fields: dict[str, Any] = {str(name): plain_value(value) for name, value in row.items()}
    kind = fields.pop("type")
    centroid = [fields.pop(name) for name in CENTROID]
    return {
        "type": TYPE_NAMES.get(kind, kind),
        "centroid": centroid,
        **{name: _whole(name, value) for name, value in fields.items() if value is not None},
    }


def _whole(name: str, value: Any) -> Any:
    """Give counts as integers: a column that does not apply everywhere is stored as floating-point."""
    return int(value) if name in COUNTS and isinstance(value, float) and value.is_integer() else value


def write_table(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    *,
    units: Mapping[str, str],
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a table as Parquet with a unit in every column's field metadata (key ``unit``).

    Parameters
    ----------
    path : path
        The file.
    table : DataFrame
        The rows.
    units : mapping
        Unit of each column; others are ignored.
    metadata : mapping, optional
        Values kept with the table, each as JSON.
    overwrite : bool
        Whether a file that is there is replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If a column has no unit.
    OutputExistsError
        If the file exists and is not to be overwritten.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    missing = [str(name) for name in table.columns if name not in units]
    if missing:
        raise InputError(f"{path} has columns without a unit ({', '.join(missing)}): name the unit of each")
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    fields = [field.with_metadata({"unit": units[field.name]}) for field in arrow.schema]
    kept = dict(arrow.schema.metadata or {})
    kept.update({str(k).encode(): json.dumps(plain_value(v)).encode() for k, v in (metadata or {}).items()})
    with atomic(Path(path), overwrite=overwrite) as temporary:
        pq.write_table(arrow.cast(pa.schema(fields, metadata=kept)), temporary)
    return Path(path)


def read_table(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table; its ``attrs`` hold ``units`` (column -> unit) and the metadata.

    Raises
    ------
    InputError
        If it is no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path} cannot be read as Parquet ({error}): write it again") from error
    table: pd.DataFrame = arrow.to_pandas()
    stored = arrow.schema.metadata or {}
    table.attrs = {
        k.decode(): json.loads(v) for k, v in stored.items() if k not in (b"pandas", b"ARROW:schema")
    }
    table.attrs["units"] = {
        field.name: field.metadata[b"unit"].decode()
        for field in arrow.schema
        if b"unit" in (field.metadata or {})
    }
    return table


def result_names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Name the folder of each exposure's results: its stem, and where stems are equal more of its path.

    Parameters
    ----------
    paths : sequence of path
        The exposures.

    Returns
    -------
    list of str
        One name each, in the same order, all different; the same for the same paths in any order.

    Raises
    ------
    InputError
        If one exposure is given twice.

    Examples
    --------
    >>> result_names(["a/x.fits", "b/x.fits", "b/y.fits"])
    ['a-x', 'b-x', 'y']
    """
    full = [Path(os.path.abspath(path)) for path in paths]
    for path, count in Counter(full).items():
        if count > 1:
            raise InputError(f"{path} is given {count} times: name each exposure once")
    twins = Counter((path.parent, stem_of(path)) for path in full)
    last = [stem_of(p) if twins[p.parent, stem_of(p)] == 1 else p.name.replace(".", "-") for p in full]
    names = last
    for depth in range(1, max((len(path.parts) for path in full), default=0)):
        count_of = Counter(names)
        names = [
            "-".join([*path.parts[1:-1][-depth:], end]) if count_of[name] > 1 else name
            for name, path, end in zip(names, full, last, strict=True)
        ]
    count_of = Counter(names)
    # folders and names that join to the same text
    return [
        f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}" if count_of[name] > 1 else name
        for name, path in zip(names, full, strict=True)
    ]
