"""Where the constants of confidence come from: logistic regressions on simulated exposures.

    python benchmarks/confidence.py [--exposures 8]

Exposures of all settings of `fmbdask bench truth`, with seeds of their own, are searched without doubt in any
step, and each event is held against the truth. Printed are the weights of what makes a lone step doubtful
(``fmbdask.ramps.candidates.DOUBT``) and the log-odds of cosmic rays and telegraph pixels
(``fmbdask.ramps.confidence``), with the reliability they have on the exposures they come from.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from fmbdask.ramps import candidates, confidence, events
from fmbdask.ramps.blocks import search
from fmbdask.ramps.config import DetectionConfig
from fmbdask.ramps.detector import as_ramp, describe
from fmbdask.ramps.prepare import prepare
from fmbdask.ramps.simulation import make_exposure, match
from fmbdask.survey.bench.settings import SETTINGS
from fmbdask.survey.bench.truth.judge import EVERY

#: Far from the seeds that judge.
FIRST_SEED = 90001
SIZES = ((100, 512, 512), (300, 256, 256))
#: What makes a step doubtful, in the order of its weights.
SHOWN = ("falls", "left over", "other steps")
#: Evidence from which telegraph pixels tell no more of the false ones.
MOST_EVIDENCE = 20.0
#: Edges of the bins of reliability.
EDGES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0)

#: What the detector itself does with doubt, kept before it is told to leave nothing out.
DOUBT, MOST_DOUBT, BEYOND_DOUBT = candidates.DOUBT, candidates.MOST_DOUBT, events.BEYOND_DOUBT

Float = NDArray[np.float64]


def features(exposures: int) -> Iterator[pd.DataFrame]:
    """Telegraph pixels and cosmic rays of each exposure: what confidence rests on, and which are real."""
    settings = DetectionConfig()
    # no step is left out, and a weight of one shows what it weighs
    events.BEYOND_DOUBT, candidates.MOST_DOUBT = 1e6, np.inf
    for setting in SETTINGS.values():
        for size in SIZES:
            for k in range(exposures):
                simulated, true = make_exposure(setting.sized(*size, k), seed=FIRST_SEED + k)
                ramp = as_ramp(simulated)
                prepared = [prepare(ramp, describe(ramp), settings, 0)]
                parts = []
                for weights in (np.zeros(3), *np.eye(3)):
                    candidates.DOUBT = tuple(weights)
                    results = search(ramp, prepared)
                    parts.append(events.find_events(np.concatenate([r.steps for r in results])).table)
                table = parts[0]
                for name, part in zip(SHOWN, parts[1:], strict=True):
                    table[name] = table["excess"] - part["excess"]
                threshold = float(prepared[0].isolated[0])
                chance = settings.false_alarm_rate * sum(r.tested for r in results)
                found = np.concatenate([r.telegraph for r in results])
                flips = pd.DataFrame({n: found[n].astype(float) for n in ("y", "x", "significance")})
                flips["first_frame"], flips["type"] = found["first_frame"].astype(int), "telegraph_noise"
                wrong = match(flips, true, EVERY).false
                yield flips.assign(real=~flips.index.isin(wrong.index))
                hits = table[table["type"] == "cosmic_ray"]
                certain = int((hits["significance"] - threshold > confidence.CERTAIN).sum())
                wrong = match(table, true, EVERY).false
                yield hits.assign(
                    real=~hits.index.isin(wrong.index), start=np.log((certain + 1) / max(chance, 1e-9))
                )


def logistic(columns: Float, real: Float, offset: Float | float = 0.0) -> Float:
    """Coefficients of a logistic regression by Newton's method, the constant first."""
    x = np.column_stack([np.ones(len(real)), columns])
    w = np.zeros(x.shape[1])
    for _ in range(60):
        p = special.expit(x @ w + offset)
        w += np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-6 * np.eye(w.size), x.T @ (real - p))
    return w


def reliability(stated: Float, real: Float) -> None:
    """Print stated and true shares in bins."""
    for low, high in pairwise(EDGES):
        inside = (stated >= low) & (stated < high)
        if inside.any():
            print(
                f"  {low:5} - {high:5}: {stated[inside].mean():.3f} {real[inside].mean():.3f} {inside.sum()}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--exposures", type=int, default=8)
    table = pd.concat(features(parser.parse_args().exposures), ignore_index=True)
    flipping = table["type"] == "telegraph_noise"
    flips, table = table[flipping], table[~flipping]
    evidence = np.minimum(flips["significance"].to_numpy() ** 2 / 2, MOST_EVIDENCE)
    w = logistic(evidence[:, None], flips["real"].to_numpy(np.float64))
    print(f"log-odds of telegraph pixels: {w[1]:.2f} (evidence - {-w[0] / w[1]:.1f}) ({len(flips)} pixels)")
    # steps that only their neighbours can confirm have no excess
    table = table[np.isfinite(table["excess"])]
    plain, shown = table["excess"].to_numpy(), table[list(SHOWN)].to_numpy()
    real = table["real"].to_numpy(np.float64)
    pixels = table["spatial_extent"].to_numpy()
    lone, excess = pixels == 1, np.clip(plain, *confidence.EXCESS)
    w = logistic(np.column_stack([excess[lone], shown[lone]]), real[lone])
    print("doubt [sigma] of", dict(zip(SHOWN, np.round(-w[2:] / w[1], 2).tolist(), strict=True)))
    # from here on with the weights that the detector has, and without what it leaves out for doubt
    doubt = np.minimum(shown @ np.array(DOUBT), MOST_DOUBT)
    kept = (pixels > 1) | (plain > np.maximum(doubt - BEYOND_DOUBT, 0))
    table, plain, doubt, real, pixels = table[kept], plain[kept], doubt[kept], real[kept], pixels[kept]
    excess = np.clip(plain - doubt, *confidence.EXCESS)
    offset = confidence.PER_HIT * np.clip(table["start"].to_numpy(), *confidence.HITS)
    odds = np.zeros(real.size)
    for least, most in ((1, 1), (2, 2), (3, np.inf)):
        inside = (pixels >= least) & (pixels <= most)
        w = logistic(excess[inside, None], real[inside], offset[inside])
        odds[inside] = w[0] + w[1] * excess[inside] + offset[inside]
        print(
            f"log-odds of {least} to {most} pixels: {w[0]:.2f} + {w[1]:.2f} excess",
            f"({inside.sum()} events)",
        )
    print("stated, real, events:")
    reliability(special.expit(odds), real)


if __name__ == "__main__":
    main()
