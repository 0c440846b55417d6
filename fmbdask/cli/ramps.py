"""`fmbdask ramps`: simulate, ingest, detect, remember, export and show exposures of infrared detectors."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.progress import progress

if TYPE_CHECKING:
    from fmbdask.survey.exposures.work import Outcome

app = typer.Typer(
    no_args_is_help=True, help="Exposures of infrared detectors: simulate, ingest, detect, export, show."
)

Exposures = Annotated[
    list[Path],
    typer.Argument(
        help="Exposure files: FITS (also .gz, .fz), .npy, Zarr, HDF5, ASDF.", metavar="EXPOSURE..."
    ),
]
Extension = Annotated[
    str | None, typer.Option(help="Which of several ramps: FITS extension, or name of an array or column.")
]
Accumulate = Annotated[
    bool, typer.Option("--accumulate", help="Integrate the fluxes of target pixel files over time.")
]
DetectorName = Annotated[
    str | None, typer.Option("--detector", help="Name of the detector, where headers have none or another.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are already there.")]


class Format(StrEnum):
    """File formats of simulated exposures."""

    fits = "fits"
    zarr = "zarr"


class Layout(StrEnum):
    """Which columns an amplifier reads."""

    contiguous = "contiguous"
    interleaved = "interleaved"


class TableFormat(StrEnum):
    """Formats of exported tables."""

    csv = "csv"
    votable = "votable"
    ecsv = "ecsv"
    ds9 = "ds9"


class TableName(StrEnum):
    """Tables of a result."""

    events = "events"
    steps = "steps"


@app.callback()
def group() -> None:
    """Exposures of infrared detectors: simulate, ingest, detect, export, show."""


@app.command(
    epilog="Example: fmbdask ramps simulate configs/ramps/simulate.yaml -o data --end-index 3 --seed 1"
)
def simulate(
    config: Annotated[Path, typer.Argument(help="YAML file that says what to simulate.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder of the exposures; `output_dir` by default.")
    ] = None,
    start_index: Annotated[int, typer.Option(min=0, help="First exposure.")] = 0,
    end_index: Annotated[int, typer.Option(min=0, help="Last exposure.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same exposures.")] = 0,
    file_format: Annotated[Format, typer.Option("--format", help="Format of the exposures.")] = Format.fits,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; all cores by default.")] = None,
    overwrite: Overwrite = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Simulate exposures with cosmic rays, telegraph noise and snowballs, and the truth beside them."""
    if submitted(cluster, slurm):
        return
    from fmbdask.config import resolve
    from fmbdask.ramps.simulation.config import SimulationConfig
    from fmbdask.survey.exposures.simulate import simulate_survey

    if end_index < start_index:
        raise typer.BadParameter("--end-index must not be smaller than --start-index")
    settings = resolve(SimulationConfig, "ramps.simulate", config).value
    with progress() as report:
        paths = simulate_survey(
            settings,
            out,
            start_index=start_index,
            end_index=end_index,
            seed=seed,
            workers=workers,
            file_format=file_format.value,
            overwrite=overwrite,
            progress=report,
        )
    for path in paths:
        typer.echo(path)


@app.command(epilog="Example: fmbdask ramps ingest data/*.fits -o ramps")
def ingest(
    exposures: Exposures,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the Zarr stores.")],
    overwrite: Overwrite = False,
    extension: Extension = None,
    accumulate: Accumulate = False,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Copy exposures into Zarr stores that are chunked for detection, and verify what was written."""
    if submitted(cluster, slurm):
        return
    from fmbdask.survey.exposures.work import ingest_exposures

    overrides = {"extension": extension, "accumulate": accumulate or None}
    with progress() as report:
        results = ingest_exposures(
            exposures,
            out,
            overwrite=overwrite,
            overrides={key: value for key, value in overrides.items() if value is not None},
            progress=report,
        )
    finish(results)


@app.command(epilog="Example: fmbdask ramps detect data/*.fits -o out --false-alarm-rate 1e-5 --numpy --ds9")
def detect(
    exposures: Exposures,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the results: OUT/<exposure>/...")],
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of detection settings.")] = None,
    features: Annotated[bool, typer.Option("--features", help="Keep the feature maps as well.")] = False,
    numpy: Annotated[
        bool, typer.Option("--numpy", help="Write mask, corrected ramp and features as NumPy files as well.")
    ] = False,
    groupdq: Annotated[
        bool, typer.Option("--groupdq", help="Write the flagged ramp as a JWST `_ramp` file as well.")
    ] = False,
    ds9: Annotated[bool, typer.Option("--ds9", help="Write a DS9 region file as well.")] = False,
    overwrite: Overwrite = False,
    extension: Extension = None,
    accumulate: Accumulate = False,
    gain: Annotated[str | None, typer.Option(help="Electrons per DN: a number or a map file.")] = None,
    read_noise: Annotated[
        str | None, typer.Option(help="Electrons in one read: a number or a map file.")
    ] = None,
    saturation: Annotated[str | None, typer.Option(help="DN: a number or a map file.")] = None,
    bad_pixels: Annotated[Path | None, typer.Option(help="Map of pixels to leave out (not 0).")] = None,
    linearity: Annotated[Path | None, typer.Option(help="Coefficients of the linearity correction.")] = None,
    reference_border: Annotated[
        str | None, typer.Option(help="Reference pixels: one number, or bottom,top,left,right.")
    ] = None,
    amplifiers: Annotated[int | None, typer.Option(min=1, help="Number of amplifiers.")] = None,
    amplifier_layout: Annotated[Layout | None, typer.Option(help="Which columns an amplifier reads.")] = None,
    frame_time: Annotated[float | None, typer.Option(min=0, help="Seconds between frames.")] = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="False alarms per clean pixel ramp.")] = None,
    skip_first: Annotated[str | None, typer.Option(help="Frames to leave out at the start, or auto.")] = None,
    skip_last: Annotated[str | None, typer.Option(help="Frames to leave out at the end, or auto.")] = None,
    detector_history: Annotated[
        Path | None, typer.Option(help="Folder that `ramps history` wrote: what is known of the detector.")
    ] = None,
    detector: DetectorName = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Find cosmic rays, telegraph noise and snowballs: a catalogue, a mask and a rate image each."""
    if submitted(cluster, slurm):
        return
    from fmbdask.config import resolve
    from fmbdask.ramps.config import DetectionConfig
    from fmbdask.survey.exposures.export import Exports
    from fmbdask.survey.exposures.work import Remembered, detect_exposures

    flags = {"false_alarm_rate": false_alarm_rate, "skip_first": skip_first, "skip_last": skip_last}
    settings = resolve(DetectionConfig, "ramps.detect", config, flags).value
    overrides = {
        "extension": extension,
        "accumulate": accumulate or None,
        "gain": number_or_file(gain),
        "read_noise": number_or_file(read_noise),
        "saturation": number_or_file(saturation),
        "bad_pixels": bad_pixels,
        "linearity": linearity,
        "reference_border": border(reference_border),
        "amplifiers": amplifiers,
        "amplifier_layout": amplifier_layout.value if amplifier_layout else None,
        "frame_time": frame_time,
    }
    with progress() as report:
        results = detect_exposures(
            exposures,
            out,
            config=settings,
            overwrite=overwrite,
            features=features,
            exports=Exports(numpy=numpy, groupdq=groupdq, ds9=ds9),
            overrides={key: value for key, value in overrides.items() if value is not None},
            remembered=Remembered(detector_history, detector),
            threads=threads,
            progress=report,
        )
    finish(results)


@app.command(epilog="Example: fmbdask ramps history out/* -o history")
def history(
    results: Annotated[
        list[Path], typer.Argument(help="Results of `ramps detect`.", metavar="OUT/EXPOSURE...")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the histories, made or extended.")],
    detector: DetectorName = None,
) -> None:
    """Remember what the exposures of a detector have in common, for `ramps detect --detector-history`.

    One table a detector: telegraph, hot, dead and noisy pixels with how often they were seen to be so, rates
    of hits and snowballs, and the pixels that the last exposure left bright. An exposure that is there
    already is counted once.
    """
    from fmbdask.survey.exposures.history import build_history

    for built in build_history(results, out, detector=detector):
        typer.echo(f"{built.path}: {built.added} added, {built.known} known before; {built.summary}")


@app.command(epilog="Example: fmbdask ramps show out/h2rg_0000")
def show(
    results: Annotated[
        list[Path], typer.Argument(help="Results of `ramps detect`.", metavar="OUT/EXPOSURE...")
    ],
    exposure: Annotated[
        Path | None, typer.Option(help="The exposure, where it is no longer at the place it was read from.")
    ] = None,
) -> None:
    """Draw what was found, as PNG files beside the results.

    overview.png: every event on the rate image; counts.png: numbers, strengths and dates; gallery.png: the
    strongest events of each kind, with the corrected counts of their pixels and the fitted models.
    """
    from fmbdask.survey.exposures.show import show_result

    for result in results:
        for path in show_result(result, exposure=exposure):
            typer.echo(path)


@app.command(epilog="Example: fmbdask ramps export out/h2rg_0000 --format votable")
def export(
    results: Annotated[
        list[Path], typer.Argument(help="Results of `ramps detect`.", metavar="OUT/EXPOSURE...")
    ],
    file_format: Annotated[TableFormat, typer.Option("--format", help="Format to write.")],
    table: Annotated[
        TableName, typer.Option(help="Events, or the pixels of cosmic rays and snowballs with their steps.")
    ] = TableName.events,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The file (of one result); beside the table by default."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the catalogue for other tools: CSV, VOTable, ECSV or DS9 regions."""
    from fmbdask.survey.exposures.export import export_result

    if out is not None and len(results) > 1:
        raise typer.BadParameter("--out names one file: give one result, or leave it out")
    for result in results:
        path = export_result(result, file_format.value, table=table.value, out=out, overwrite=overwrite)
        typer.echo(path)


def finish(outcomes: list[Outcome]) -> None:
    """Say what became of each exposure, a line each, and end with status 1 if one failed."""
    failed = 0
    for outcome in outcomes:
        if outcome.error is None:
            typer.echo(f"{outcome.result}: {outcome.summary}" if outcome.summary else outcome.result)
        else:
            failed += 1
            typer.echo(f"Error: {outcome.error}", err=True)
    if len(outcomes) > 1:
        typer.echo(f"{len(outcomes) - failed} of {len(outcomes)} exposures done, {failed} failed", err=True)
    if failed:
        raise typer.Exit(1)


def number_or_file(text: str | None) -> float | Path | None:
    """A number as it is, anything else as the path of a map."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return Path(text)


def border(text: str | None) -> list[int] | None:
    """`4` or `4,4,0,0` as reference pixels at the bottom, top, left and right."""
    if text is None:
        return None
    try:
        widths = [int(part) for part in text.split(",")]
    except ValueError:
        widths = []
    if len(widths) == 1:
        widths *= 4
    if len(widths) != 4 or min(widths) < 0:
        raise typer.BadParameter(f"--reference-border takes one number or bottom,top,left,right, not {text}")
    return widths
