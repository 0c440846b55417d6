"""All stores of the benchmark, searched one after the other, and tables of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from ....errors import InputError
from ..write import as_text, write_tables
from .harder import JUDGES
from .judge import RATE, Judged, judge

#: Stores are numbered from here: seeds that no setting was chosen with.
FIRST_SEED = 8001
SEVERITIES = (0.5, 0.25, 0.15)

Report = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Case:
    """One store: see :func:`~.judge.judge`."""

    family: str
    seed: int
    severity: float
    objects: int
    width: int | None = None


def cases(quick: bool, seeds: int) -> list[Case]:
    """Stores of the benchmark: the easy one at three severities, harder ones, and both without anomalies."""
    objects, width = (4000, 192) if quick else (20_000, None)
    found = [Case("planted", FIRST_SEED, severity, objects, width) for severity in SEVERITIES]
    for family in JUDGES:
        found += [Case(family, FIRST_SEED + k, 0.5, objects, width) for k in range(seeds)]
    return [*found, *(Case(family, FIRST_SEED, 0.0, objects, width) for family in ("planted", *JUDGES))]


def embeddings_files(
    out: Path, *, quick: bool, seeds: int, alignment: str = "mlp", report: Report | None = None
) -> tuple[str, list[Path]]:
    """Search all stores and write the tables.

    Stores that a file in ``out`` tells the results of are not searched again, so that a benchmark which was
    stopped goes on.

    Parameters
    ----------
    out : Path
        Folder of ``embeddings.txt``, a CSV file a table, and ``judged.jsonl``.
    quick : bool
        Small stores.
    seeds : int
        Of each harder family.
    alignment : {"mlp", "ridge"}
    report : callable, optional
        Called with (done, total, text).

    Returns
    -------
    str, list of Path
        The tables as text, and the files.
    """
    if alignment not in ("mlp", "ridge"):
        raise InputError(f"there is no alignment by {alignment}: give mlp or ridge")
    wanted = cases(quick, seeds)
    out.mkdir(parents=True, exist_ok=True)
    journal = out / "judged.jsonl"
    done = {_case_of(one): one for one in _read(journal) if one.alignment == alignment}
    judged = []
    for number, case in enumerate(wanted):
        if report is not None:
            report(number, len(wanted), f"{case.family} {case.seed}, severity {case.severity:g}")
        one = done.get((case.family, case.seed, case.severity, case.objects))
        if one is None:
            one = judge(**asdict(case), alignment=alignment)
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one)) + "\n")
        judged.append(one)
    if report is not None:
        report(len(wanted), len(wanted), "done")
    tables = tables_of(judged)
    text = as_text(tables)
    plain = {name: table for name, (_, table) in tables.items()}
    return text, [*write_tables(plain, text, out, "embeddings"), journal]


def tables_of(judged: Iterable[Judged]) -> dict[str, tuple[str, pd.DataFrame]]:
    """Recall of each store, means and worst of the families, what lists hold, single detectors, CPU time."""
    all_of = list(judged)
    recall = pd.DataFrame([{**_head(one), **one.recall} for one in all_of if one.planted])
    lists = pd.DataFrame(
        [
            {
                **_head(one),
                "planted": one.planted,
                "listed": one.listed,
                "false": one.false,
                "found": one.found,
            }
            for one in all_of
        ]
    )
    summary = []
    for (family, severity), own in lists[lists["planted"] > 0].groupby(["family", "severity"], sort=False):
        rows = recall[(recall["family"] == family) & (recall["severity"] == severity)]
        values = pd.concat(
            [rows.drop(columns=["family", "seed", "severity"]), own[["listed", "false", "found"]]], axis=1
        )
        for name, of in (("mean", values.mean()), ("lowest", values.min()), ("highest", values.max())):
            summary.append({"family": family, "severity": severity, "seeds": len(own), "": name, **of})
    each = pd.DataFrame(
        [
            {"family": one.family, "detector": name, **found}
            for one in all_of
            if one.planted and one.severity == 0.5
            for name, found in one.each.items()
        ]
    )
    single = each.groupby(["family", "detector"], sort=False).mean().reset_index()
    times = pd.DataFrame(
        [
            {"family": one.family, "objects": one.objects, "width": one.width, "alignment": one.alignment,
             "fit [CPU s]": one.fit_s, "score [CPU s]": one.score_s,
             "score [CPU ms an object]": 1e3 * one.score_s / one.objects}
            for one in all_of
        ]
    )  # fmt: skip
    median = times.groupby(["family", "objects", "width", "alignment"], sort=False).median().reset_index()
    return {
        "recall": ("share of each class among the first objects, as many as were planted", recall),
        "lists": (f"lists at a false discovery rate of {RATE:g}", lists),
        "summary": ("over the seeds", pd.DataFrame(summary)),
        "single": ("the same share by single detectors, mean of the seeds at severity 0.5", single),
        "times": ("CPU time of one thread, medians", median),
    }


def _head(one: Judged) -> dict[str, str | int | float]:
    return {"family": one.family, "seed": one.seed, "severity": one.severity}


def _case_of(one: Judged) -> tuple[str, int, float, int]:
    return one.family, one.seed, one.severity, one.objects


def _read(journal: Path) -> list[Judged]:
    if not journal.is_file():
        return []
    return [Judged(**json.loads(line)) for line in journal.read_text(encoding="utf-8").splitlines()]
