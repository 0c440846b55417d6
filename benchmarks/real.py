"""Steps put into a real exposure: completeness and false alarms, beside stcal's two-point difference.

    python benchmarks/real.py EXPOSURE [--passes 4] [--gain 5.5] [--stcal PYTHON]

stcal runs where `fmbdask bench peers` has built the environment of the other tools, or with the interpreter
that is named; without one its rows are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

import fmbdask
from fmbdask.survey.bench.peers.environment import READY, cache_folder
from fmbdask.survey.bench.peers.real import HEADING, real_steps


def main() -> None:
    """Print a table, one column a method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exposure", type=Path)
    parser.add_argument("--passes", type=int, default=4, help="times that steps are put in")
    parser.add_argument("--gain", type=float, help="electrons per DN, where the header does not tell")
    parser.add_argument("--stcal", type=Path, help="Python of an environment with stcal")
    asked = parser.parse_args()
    python = asked.stcal
    if python is None and (cache_folder() / READY).exists():
        python = cache_folder() / "bin" / "python"
    overrides = {} if asked.gain is None else {"gain": asked.gain}
    table = real_steps(fmbdask.open_ramp(asked.exposure, **overrides), passes=asked.passes, python=python)
    print(HEADING)
    with pd.option_context("display.width", 200):
        print(table.T.to_string(header=False))


if __name__ == "__main__":
    main()
