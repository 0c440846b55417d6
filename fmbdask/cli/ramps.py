"""`fmbdask ramps`: simulate, ingest, detect, remember, export and show exposures of infrared detectors."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmbdask.cli.elsewhere import ClusterFile, Slurm, submitted
from fmbdask.cli.exposures import (
    Accumulate,
    AmplifierLayout,
    Amplifiers,
    BadPixels,
    Border,
    Extension,
    FrameTime,
    Gain,
    Linearity,
    ReadNoise,
    Saturation,
    overrides,
)
from fmbdask.cli.networks import Everywhere, Model, ModelConfidence, ModelDevice, asked
from fmbdask.cli.options import Threads
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
DetectorName = Annotated[
    str | None, typer.Option("--detector", help="Name of the detector, where headers have none or another.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that are already there.")]


class Processor(StrEnum):
    """What may do the first pass over all pixels."""

    cpu = "cpu"
    gpu = "gpu"
    auto = "auto"


class Format(StrEnum):
    """File formats of simulated exposures."""

    fits = "fits"
    zarr = "zarr"


class Pixels(StrEnum):
    """Which pixels become sequences."""

    random = "random"
    candidates = "candidates"
    all = "all"


class Kind(StrEnum):
    """What the steps of a sequence are."""

    differences = "differences"
    counts = "counts"


class Units(StrEnum):
    """Units of sequences."""

    sigma = "sigma"
    DN = "DN"


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
    ctx: typer.Context,
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

    with progress() as report:
        results = ingest_exposures(
            exposures,
            out,
            overwrite=overwrite,
            overrides=overrides(ctx.params),
            progress=report,
        )
    finish(results)


@app.command(epilog="Example: fmbdask ramps detect data/*.fits -o out --false-alarm-rate 1e-5 --numpy --ds9")
def detect(
    ctx: typer.Context,
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
    gain: Gain = None,
    read_noise: ReadNoise = None,
    saturation: Saturation = None,
    bad_pixels: BadPixels = None,
    linearity: Linearity = None,
    reference_border: Border = None,
    amplifiers: Amplifiers = None,
    amplifier_layout: AmplifierLayout = None,
    frame_time: FrameTime = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="False alarms per clean pixel ramp.")] = None,
    skip_first: Annotated[str | None, typer.Option(help="Frames to leave out at the start, or auto.")] = None,
    skip_last: Annotated[str | None, typer.Option(help="Frames to leave out at the end, or auto.")] = None,
    detector_history: Annotated[
        Path | None, typer.Option(help="Folder that `ramps history` wrote: what is known of the detector.")
    ] = None,
    detector: DetectorName = None,
    model: Model = None,
    model_confidence: ModelConfidence = None,
    model_device: ModelDevice = None,
    everywhere: Everywhere = False,
    device: Annotated[
        Processor, typer.Option(help="Where the first pass over all pixels runs: cpu, gpu, or auto.")
    ] = Processor.cpu,
    threads: Threads = None,
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

    flags = {
        "false_alarm_rate": false_alarm_rate, "skip_first": skip_first, "skip_last": skip_last,
    }  # fmt: skip
    settings = resolve(DetectionConfig, "ramps.detect", config, flags | asked(ctx.params)).value
    with progress() as report:
        results = detect_exposures(
            exposures,
            out,
            config=settings,
            overwrite=overwrite,
            features=features,
            exports=Exports(numpy=numpy, groupdq=groupdq, ds9=ds9),
            overrides=overrides(ctx.params),
            remembered=Remembered(detector_history, detector),
            threads=threads,
            progress=report,
            device=device.value,
        )
    finish(results)


@app.command(epilog="Example: fmbdask ramps sequences data/dark.fits -o PIXELS.zarr --count 50000")
def sequences(
    ctx: typer.Context,
    exposure: Annotated[
        Path, typer.Argument(help="An exposure of any format that detect takes.", metavar="EXPOSURE")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The store to write.", metavar="EMB.zarr")],
    pixels: Annotated[
        Pixels, typer.Option(help="A sample, those in which detect finds something, or all.")
    ] = Pixels.random,
    count: Annotated[int, typer.Option(min=1, help="Pixels at most, unless all are taken.")] = 20_000,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pixels.")] = 0,
    kind: Annotated[
        Kind, typer.Option(help="Differences of frames, or counts above the first one.")
    ] = Kind.differences,
    units: Annotated[Units, typer.Option(help="Read noise of the pixel, or DN.")] = Units.sigma,
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of detection settings.")] = None,
    overwrite: Overwrite = False,
    extension: Extension = None,
    accumulate: Accumulate = False,
    gain: Gain = None,
    read_noise: ReadNoise = None,
    saturation: Saturation = None,
    bad_pixels: BadPixels = None,
    linearity: Linearity = None,
    reference_border: Border = None,
    amplifiers: Amplifiers = None,
    amplifier_layout: AmplifierLayout = None,
    frame_time: FrameTime = None,
    threads: Threads = None,
    cluster: ClusterFile = None,
    slurm: Slurm = False,
) -> None:
    """Write the ramps of pixels as sequences, each an object of a store, for detectors of time series.

    Offsets that pixels share are taken off as detect does; frames that are flagged, saturated or left out are
    not valid. `fmbdask train lstm EMB.zarr` learns from them.
    """
    if submitted(cluster, slurm):
        return
    from fmbdask.config import resolve
    from fmbdask.ramps.config import DetectionConfig
    from fmbdask.survey.exposures.sequences import ramp_sequences

    with progress() as report:
        done = ramp_sequences(
            exposure,
            out,
            pixels=pixels.value,
            count=count,
            seed=seed,
            kind=kind.value,
            units=units.value,
            config=resolve(DetectionConfig, "ramps.detect", config, {}).value,
            overrides=overrides(ctx.params),
            overwrite=overwrite,
            threads=threads,
            say=lambda text: typer.echo(text, err=True),
            progress=report,
        )
    for note in done.notes:
        typer.echo(f"Note: {note}", err=True)
    typer.echo(f"{done.path}: {done.objects} pixels")
    for name, tally in done.modalities.items():
        typer.echo(f"  {name}: {tally}")


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
