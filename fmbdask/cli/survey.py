"""`fmbdask survey`: whole surveys planned, run, resumed and reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fmbdask.cli.progress import progress

if TYPE_CHECKING:
    from fmbdask.survey.running.run import Run

app = typer.Typer(no_args_is_help=True, help="Whole surveys: plan, run, resume, report.")

RunPath = Annotated[Path, typer.Argument(help="Folder of the run.", metavar="RUN")]
Config = Annotated[Path, typer.Argument(help="YAML file of the survey.", metavar="SURVEY.yaml")]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        help="Where it runs: local, threads, tcp://HOST:PORT, runner, or a YAML file of a cluster.",
        metavar="CLUSTER",
    ),
]
SlurmOption = Annotated[
    bool,
    typer.Option("--slurm", help="Short for --cluster with the site's file, configs/cluster/slurm.yaml."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers to ask for; the cluster's by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def group() -> None:
    """Whole surveys: plan, run, resume, report."""


@app.command(
    epilog="Example: fmbdask survey plan configs/survey/darks.yaml --cluster configs/cluster/slurm.yaml"
)
def plan(
    config: Config,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say what a survey will cost before it begins, and refuse what cannot work.

    Writes the plan into the output folder; `survey run` uses its calibration.
    """
    from fmbdask.survey.planning.plan import describe
    from fmbdask.survey.planning.plan import plan as make_plan

    with progress() as report:
        made = make_plan(config, cluster=site(cluster, slurm), workers=workers, progress=report)
    made.check()
    made.save()
    typer.echo(json.dumps(made.as_json(), indent=1) if as_json else describe(made))


@app.command(
    epilog="Example: fmbdask survey run configs/survey/darks.yaml --cluster configs/cluster/slurm.yaml"
)
def run(
    config: Config,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Plan a survey if it is not planned yet, and run it.

    Ctrl-C stops it after the regions in hand; `survey resume` goes on. A run that has begun is never begun
    again. Exit status: 0 all done, 1 some inputs failed or it was stopped before the end.
    """
    from fmbdask.survey.running.run import run as run_survey

    with progress() as report:
        done = run_survey(config, cluster=site(cluster, slurm), workers=workers, progress=report)
    finish(done)


@app.command(epilog="Example: fmbdask survey resume runs/darks")
def resume(
    path: RunPath,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
    accept_changes: Annotated[
        bool,
        typer.Option(
            "--accept-changes", help="Begin anew what is concerned by changed inputs or configuration."
        ),
    ] = False,
) -> None:
    """Go on with a run: what has ended is not done again.

    Refuses when inputs or the configuration changed since, and shows what did.
    """
    from fmbdask.survey.running.run import resume as resume_survey

    with progress() as report:
        done = resume_survey(
            path,
            cluster=site(cluster, slurm),
            workers=workers,
            accept_changes=accept_changes,
            progress=report,
        )
    finish(done)


@app.command(
    epilog="Example: fmbdask survey add runs/darks data/2026-11-20/*.fits && fmbdask survey resume runs/darks"
)
def add(
    path: RunPath,
    inputs: Annotated[list[str], typer.Argument(help="Files, globs or manifests.", metavar="INPUT...")],
) -> None:
    """Add inputs to a run; `survey resume` works on them."""
    from fmbdask.survey.running.run import add as add_inputs

    added = add_inputs(path, inputs)
    typer.echo(f"{added} input{'s' * (added != 1)} added to {path}: `fmbdask survey resume {path}` goes on")


@app.command(epilog="Example: fmbdask survey status runs/darks --json")
def status(path: RunPath, as_json: Json = False) -> None:
    """Say how a run goes, also while it runs and from another machine."""
    from fmbdask.survey.reporting.status import describe
    from fmbdask.survey.reporting.status import status as look

    found = look(path)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else describe(found))


@app.command(epilog="Example: fmbdask survey stop runs/darks")
def stop(path: RunPath) -> None:
    """Stop a run after the regions in hand, and cancel its jobs."""
    from fmbdask.survey.running.run import stop as stop_run

    typer.echo(stop_run(path))


@app.command(epilog="Example: fmbdask survey failures runs/darks")
def failures(
    path: RunPath,
    as_json: Json = False,
    log: Annotated[bool, typer.Option(help="Show the last lines of each log.")] = True,
) -> None:
    """List what failed: the input, the stage and region, why, how often it was tried, and the log."""
    from fmbdask.survey.reporting.failures import describe
    from fmbdask.survey.reporting.failures import failures as look

    found = look(path)
    typer.echo(found.to_json(orient="records", indent=1) if as_json else describe(found, log=log))


@app.command(epilog="Example: fmbdask survey retry runs/darks --failed")
def retry(
    path: RunPath,
    failed: Annotated[bool, typer.Option("--failed", help="All inputs that failed.")] = False,
    names: Annotated[
        list[str] | None, typer.Option("--input", help="One that failed, by its name; may be repeated.")
    ] = None,
    cluster: ClusterOption = None,
    slurm: SlurmOption = False,
    workers: Workers = None,
) -> None:
    """Try again what failed, with fresh attempts."""
    from fmbdask.survey.running.run import retry as retry_failed

    if not failed and not names:
        raise typer.BadParameter("say what to try again: --failed for all, or --input NAME")
    with progress() as report:
        done = retry_failed(path, names=names, cluster=site(cluster, slurm), workers=workers, progress=report)
    finish(done)


@app.command(epilog="Example: fmbdask survey report runs/darks, then open runs/darks/report.html")
def report(path: RunPath) -> None:
    """Write the report: one page, what was done, what failed and why, where the time went."""
    from fmbdask.survey.reporting.report import write_report

    typer.echo(write_report(path))


@app.command(epilog="Example: fmbdask survey work runs/darks --part $SLURM_ARRAY_TASK_ID/16")
def work(
    path: RunPath,
    part: Annotated[str, typer.Option("--part", help="I/N: the I-th of N parts, from 1.", metavar="I/N")],
    threads: Annotated[int | None, typer.Option(min=1, help="Threads; all cores by default.")] = None,
) -> None:
    """Do one part of a planned run in this process: for job arrays, without a coordinator.

    `survey finish` makes the catalogue when all parts are done.
    """
    from fmbdask.survey.running.array import work as work_part

    number, count = part_of(part)
    with progress() as told:
        done = work_part(path, number, count, threads=threads, progress=told)
    finish(done)


@app.command("finish", epilog="Example: fmbdask survey finish runs/darks")
def finish_run(path: RunPath) -> None:
    """Make the catalogue and the report after all parts of a job array have ended."""
    from fmbdask.survey.running.array import finish as finish_parts

    with progress() as told:
        done = finish_parts(path, progress=told)
    finish(done)


def part_of(text: str) -> tuple[int, int]:
    """`3/16` as the third of sixteen parts."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise typer.BadParameter(f"--part takes I/N with I from 1 to N, not {text}")
    return int(number), int(count)


def site(cluster: str | None, slurm: bool) -> str | None:
    """The cluster that was named, or the site's file."""
    if not slurm:
        return cluster
    if cluster is not None:
        raise typer.BadParameter("--slurm is short for --cluster with the site's file: give one of them")
    from fmbdask.cluster.submit import site_file

    return str(site_file())


def finish(done: Run) -> None:
    """Say what became of a run, and where its results are; status 1 unless all is done."""
    typer.echo(done.describe())
    if done.stopped or done.failed:
        raise typer.Exit(1)
