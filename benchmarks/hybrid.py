"""The rules alone against the rules with a network, on simulated exposures that neither was tuned on.

    python benchmarks/hybrid.py MODEL [--exposures N] [--frames T] [--size EDGE] [--confidence C ...] [-o CSV]

Exposures take turns among the settings of ``fmbdask bench truth``, with seeds of their own. Of each class are
printed how many true events there are, how many each of the two finds, the difference with the interval that
holds 95 % of it when exposures are drawn anew (bootstrap), and false detections. Classes are the kinds that
``bench truth`` scores, and the weak ones: hits whose brightest pixel stays below 3 sigma, hits of a total
signal-to-noise ratio of 5 to 8 (which no score counts), and telegraph pixels of 3 to 5 sigma.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fmbdask.ramps.detect import detect
from fmbdask.ramps.simulation import Limits, make_exposure, match
from fmbdask.ramps.simulation.scoring import counted
from fmbdask.survey.bench.settings import SETTINGS

#: Seeds of the judge: neither those of `bench truth` nor of any training.
FIRST_SEED = 9001
#: Draws of the bootstrap.
DRAWS = 2000


@dataclass(frozen=True)
class Class:
    """Some true events: their kind, the limits under which they count, and which of those are meant."""

    name: str
    kind: str
    limits: Limits
    which: Callable[[pd.DataFrame], pd.Series]


ALL = Limits(snr=5.0)
CLASSES = (
    Class("cosmic rays", "cosmic_ray", Limits(), lambda e: e["snr"] >= 0),
    Class("telegraph pixels", "telegraph_noise", Limits(), lambda e: e["snr"] >= 0),
    Class("snowballs", "snowball", Limits(), lambda e: e["event_id"] >= 0),
    Class("hits, peak below 3 sigma", "cosmic_ray", Limits(), lambda e: e["peak_sigma"] < 3.0),
    Class("hits, signal-to-noise 5 to 8", "cosmic_ray", ALL, lambda e: e["snr"].between(5.0, 8.0)),
    Class("telegraph, 3 to 5 sigma", "telegraph_noise", Limits(), lambda e: e["peak_sigma"] < 5.0),
)


def judged(model: str | None, confidence: float, count: int, frames: int, size: int) -> pd.DataFrame:
    """True, found and false of each class and exposure."""
    rows = []
    options = {} if model is None else {"model": model, "model_confidence": confidence}
    for number in range(count):
        setting = list(SETTINGS.values())[number % len(SETTINGS)]
        ramp, truth = make_exposure(setting.sized(frames, size, size, number), seed=FIRST_SEED + number)
        events = detect(ramp, **options).events
        for one in CLASSES:
            score = match(events, truth, one.limits)
            true = truth.events[counted(truth.events, one.limits) & (truth.events["type"] == one.kind)]
            meant = true[one.which(true)]
            missed = meant.index.intersection(score.missed.index)
            rows.append(
                {
                    "exposure": number, "setting": setting.name, "class": one.name, "true": len(meant),
                    "found": len(meant) - len(missed), "false": score.kinds[one.kind].false,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


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


def main() -> None:
    """Judge, and print a table for each confidence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of a network, as `fmbdask train unet` makes it")
    parser.add_argument("--exposures", type=int, default=24)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.9])
    parser.add_argument("-o", "--out", type=Path, help="CSV of every exposure")
    options = parser.parse_args()
    sizes = options.exposures, options.frames, options.size
    rules = judged(None, 0.0, *sizes)
    kept = [rules.assign(confidence=np.nan)]
    for confidence in options.confidence:
        hybrid = judged(options.model, confidence, *sizes)
        kept.append(hybrid.assign(confidence=confidence))
        print(f"\nProposals are accepted from a confidence of {confidence:g}.\n")
        print(compared(rules, hybrid).to_string(index=False, float_format="{:.3f}".format))
    if options.out is not None:
        pd.concat(kept).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
