"""The rules alone against the rules with a network, on simulated exposures that neither was tuned on.

    python benchmarks/hybrid.py MODEL [--exposures N] [--frames T] [--size EDGE] [--confidence C ...] [-o CSV]

Exposures take turns among the settings of ``fmbdask bench truth``, with seeds of their own. Of each class are
printed how many true events there are, how many each of the two finds, the difference with the interval that
holds 95 % of it when exposures are drawn anew (bootstrap), and false detections. Classes are the kinds that
``bench truth`` scores, and the weak ones: hits whose brightest pixel stays below 3 sigma, hits of a total
signal-to-noise ratio of 5 to 8 (which no score counts), hits on the pixels of other events, and telegraph
pixels of 3 to 5 sigma.

Then proposals are counted by their confidence, with the share of them that are true hits of any strength. A
last table accepts proposals by the significance of their lines alone, without asking the network, from what
makes as many false detections as the network does: what the network itself is worth.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmbdask.ramps.detect import detect
from fmbdask.ramps.simulation import Limits, Truth, make_exposure, match
from fmbdask.ramps.simulation.scoring import counted
from fmbdask.survey.bench.settings import SETTINGS

#: Seeds of the judge: neither those of `bench truth` nor of any training.
FIRST_SEED = 9001
#: Bins of confidence.
BINS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0)
#: Draws of the bootstrap.
DRAWS = 2000


@dataclass(frozen=True)
class Class:
    """Some true events: their kind, the limits under which they count, and which of those are meant."""

    name: str
    kind: str
    limits: Limits
    which: Callable[[pd.DataFrame, Truth], pd.Series]


def _shared(events: pd.DataFrame, truth: Truth) -> pd.Series:
    """Events some pixel of which belongs to another one as well."""
    several = truth.pixels.groupby(["integration", "y", "x"])["event_id"].transform("nunique") > 1
    return events["event_id"].isin(truth.pixels.loc[several, "event_id"])


ALL = Limits(snr=5.0)
CLASSES = (
    Class("cosmic rays", "cosmic_ray", Limits(), lambda e, _: e["snr"] >= 0),
    Class("telegraph pixels", "telegraph_noise", Limits(), lambda e, _: e["snr"] >= 0),
    Class("snowballs", "snowball", Limits(), lambda e, _: e["event_id"] >= 0),
    Class("hits, peak below 3 sigma", "cosmic_ray", Limits(), lambda e, _: e["peak_sigma"] < 3.0),
    Class("hits, signal-to-noise 5 to 8", "cosmic_ray", ALL, lambda e, _: e["snr"].between(5.0, 8.0)),
    Class("hits that share pixels", "cosmic_ray", Limits(), _shared),
    Class("telegraph, 3 to 5 sigma", "telegraph_noise", Limits(), lambda e, _: e["peak_sigma"] < 5.0),
)
WEAK = ("hits, peak below 3 sigma", "hits, signal-to-noise 5 to 8")


@dataclass(frozen=True)
class Searched:
    """An exposure with all proposals accepted: those of the rules are told by ``found_by``."""

    number: int
    setting: str
    events: pd.DataFrame
    truth: Truth


def searched(model: str, count: int, frames: int, size: int, everywhere: bool) -> list[Searched]:
    """Simulate and search exposures; the network is asked once, and answers are held against confidences."""
    found = []
    for number in range(count):
        setting = list(SETTINGS.values())[number % len(SETTINGS)]
        ramp, truth = make_exposure(setting.sized(frames, size, size, number), seed=FIRST_SEED + number)
        events = detect(ramp, model=model, model_confidence=0.0, model_everywhere=everywhere).events
        found.append(Searched(number, setting.name, events, truth))
    return found


def judged(exposures: list[Searched], least: float, column: str = "confidence") -> pd.DataFrame:
    """True, found and false of each class and exposure, with proposals from a confidence on."""
    rows = []
    for one in exposures:
        kept = (one.events["found_by"] == "rules") | (one.events[column] >= least)
        for each in CLASSES:
            score = match(one.events[kept], one.truth, each.limits)
            every = one.truth.events
            true = every[counted(every, each.limits) & (every["type"] == each.kind)]
            meant = true[each.which(true, one.truth)]
            missed = meant.index.intersection(score.missed.index)
            rows.append(
                {
                    "exposure": one.number, "setting": one.setting, "class": each.name, "true": len(meant),
                    "found": len(meant) - len(missed), "false": score.kinds[each.kind].false,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def false_hits(table: pd.DataFrame) -> int:
    """False cosmic rays of all exposures."""
    return int(table.loc[table["class"] == CLASSES[0].name, "false"].sum())


def as_many_false(exposures: list[Searched], most: int) -> float:
    """Least significance of a line from which on proposals make at most so many false hits."""
    low, high = 4.0, 50.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if false_hits(judged(exposures, middle, "significance")) <= most else (middle, high)
        )
    return high


def reliability(exposures: list[Searched]) -> pd.DataFrame:
    """Proposals in bins of their confidence, and the share that is real."""
    each = []
    for one in exposures:
        false = match(one.events, one.truth, Limits(snr=0.0)).false.index
        proposed = one.events[one.events["found_by"] == "network"]
        each.append(pd.DataFrame({"said": proposed["confidence"], "real": ~proposed.index.isin(false)}))
    every = pd.concat(each)
    table = every.groupby(pd.cut(every["said"], BINS), observed=True).agg(
        proposals=("said", "size"), confidence=("said", "mean"), real=("real", "mean")
    )
    return table.reset_index(names="bin")


def compared(rules: pd.DataFrame, hybrid: pd.DataFrame) -> pd.DataFrame:
    """Sums of each class, and the interval of the difference in completeness."""
    draws = np.random.default_rng(0)
    lines = []
    for name in rules["class"].unique():
        one, other = (t[t["class"] == name].set_index("exposure") for t in (rules, hybrid))
        true, more = one["true"].to_numpy(), (other["found"] - one["found"]).to_numpy()
        chosen = draws.integers(0, len(true), (DRAWS, len(true)))
        each = more[chosen].sum(axis=1) / np.maximum(true[chosen].sum(axis=1), 1)
        low, high = np.percentile(each, [2.5, 97.5])
        lines.append(
            {
                "class": name, "true": true.sum(), "rules": one["found"].sum() / max(true.sum(), 1),
                "hybrid": other["found"].sum() / max(true.sum(), 1),
                "difference": more.sum() / max(true.sum(), 1), "low": low, "high": high,
                "false_rules": one["false"].sum(), "false_hybrid": other["false"].sum(),
            }
        )  # fmt: skip
    return pd.DataFrame(lines)


def by_setting(table: pd.DataFrame) -> pd.DataFrame:
    """Classes of each setting apart, of those that a network may change."""
    own = table[table["class"].isin([CLASSES[0].name, *WEAK])]
    return own.assign(**{"class": own["setting"] + ": " + own["class"]})


def main() -> None:
    """Judge, and print a table for each confidence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a network, as `fmbdask train unet` makes it")
    parser.add_argument("--exposures", type=int, default=80)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.9])
    parser.add_argument("--everywhere", action="store_true", help="look at whole exposures, as ramps detect")
    parser.add_argument("-o", "--out", type=Path, help="CSV of every exposure")
    options = parser.parse_args()
    sizes = options.exposures, options.frames, options.size
    exposures = searched(options.model, *sizes, options.everywhere)
    rules = judged(exposures, np.inf)
    kept = [rules.assign(confidence=np.nan)]
    for confidence in options.confidence:
        hybrid = judged(exposures, confidence)
        kept.append(hybrid.assign(confidence=confidence))
        print(f"\nProposals are accepted from a confidence of {confidence:g}.\n")
        for one, other in ((rules, hybrid), (by_setting(rules), by_setting(hybrid))):
            print(compared(one, other).to_string(index=False, float_format="{:.4f}".format), "\n")
    print("\nProposals by their confidence.\n")
    print(reliability(exposures).to_string(index=False, float_format="{:.3f}".format))
    least = as_many_false(exposures, false_hits(kept[1]))
    lines = judged(exposures, least, "significance")
    print(
        f"\nWithout the network: from {least:.2f} sigma of their lines on, which makes as many false hits as "
        f"a confidence of {options.confidence[0]:g}.\n"
    )
    print(compared(rules, lines).to_string(index=False, float_format="{:.3f}".format))
    if options.out is not None:
        pd.concat(kept).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
