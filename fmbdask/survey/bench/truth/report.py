"""The tables of `bench truth` as they are printed, each below a heading that says how to read it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

Tables = Mapping[str, pd.DataFrame]
Printed = dict[str, tuple[str, pd.DataFrame]]


def printed(tables: Tables) -> Printed:
    """Choose and shape what is printed; the CSV files hold every row.

    Parameters
    ----------
    tables : mapping
        From :func:`fmbdask.survey.bench.truth.run.truth`.

    Returns
    -------
    dict
        Heading and table by name.
    """
    quality = tables["quality"]
    hits = quality[quality["kind"] != "snowball"].drop(
        columns=["coverage", "coverage_worst", "area", "area_worst"]
    )
    balls = quality[quality["kind"] == "snowball"].drop(columns=["within_1", "within_1_worst"])
    shown: Printed = {
        "quality": (
            "Hits and telegraph pixels: sums over the seeds, median and worst of the seeds;\n"
            "within_1 is the share of first frames right within one, of hits above 6 sigma.",
            hits,
        ),
        "snowballs": (
            "Snowballs: coverage is the share of their pixels (saturated, or a step of at least 1 sigma)\n"
            "that is flagged, area the flagged area relative to theirs.",
            balls,
        ),
    }
    if "amplitude" in tables:
        shown["amplitude"] = (
            "Completeness of every event, scored or not, by amplitude of the brightest pixel [sigma].",
            _bins(tables["amplitude"]),
        )
        shown["light"] = (
            "Completeness of scored events by light on the brightest pixel [electron / frame].",
            _bins(tables["light"]),
        )
    shown["confidence"] = (
        "Reliability: mean of the stated confidence, and share of the detections that are real.",
        tables["confidence"],
    )
    slopes = tables["slopes"].groupby(["frames", "setting", "pixels_of"], sort=False)
    shown["slopes"] = (
        "Rates, medians of the seeds: scatter and bias in units of the ideal error, width of pulls,\n"
        "share of pulls beyond 5.",
        slopes[["pixels", "scatter", "bias", "pull", "outliers"]].median().reset_index(),
    )
    if "false_alarms" in tables:
        shown["false_alarms"] = (
            "Clean ramps: events expected from the stated rate and found, their ratio and its 95 % interval.",
            tables["false_alarms"],
        )
    if "steps" in tables:
        shown["steps"] = (
            "Single steps in clean ramps of 1 electron per frame, at any frame but the first: of the other\n"
            "ramps within 3 pixels of a step (they may join its event) and farther away (false alarms, with\n"
            "their 95 % interval) the numbers and the shares flagged; share of steps of 2, 3, 4 and 6 sigma\n"
            "found within 3 frames.",
            tables["steps"],
        )
    lost = tables["missed"].groupby(["setting", "frames", "type"], sort=False).size().rename("missed")
    wrong = tables["false"].groupby(["setting", "frames", "type", "on"], sort=False).size().rename("false")
    shown["missed"] = ("Scored events missed (each of them: truth_missed.csv).", lost.reset_index())
    shown["false"] = (
        "False detections, and the kind of true event that their brightest pixel belongs to, if any\n"
        "(each of them: truth_false.csv).",
        wrong.reset_index(),
    )
    return shown


def _bins(table: pd.DataFrame) -> pd.DataFrame:
    """Bins side by side."""
    edges = table.assign(bin=[_span(a, b) for a, b in zip(table["from"], table["to"], strict=True)])
    order = edges.sort_values("from")["bin"].unique()
    wide = edges.pivot_table(
        index=["kind", "frames", "setting"], columns="bin", values="completeness", sort=False
    )
    return wide[list(order)].reset_index().rename_axis(columns=None)


def _span(low: float, high: float) -> str:
    return f">{low:g}" if high == float("inf") else f"{low:g}-{high:g}"
