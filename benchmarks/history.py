"""What the history of a detector is worth: exposures of one detector searched without and with it.

Run: python benchmarks/history.py [--frames 100] [--size 256] [--learn 6] [--judge 4] [--setting dark]
"""

from __future__ import annotations

import argparse

import pandas as pd

from fmbdask.survey.bench.truth.remembered import remembered


def main() -> None:
    """Print a table, one column without and one with history."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("frames", 100), ("size", 256), ("learn", 6), ("judge", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--setting", default="dark", choices=("dark", "drift", "sky", "effects"))
    asked = parser.parse_args()
    table = remembered(asked.frames, asked.size, asked.learn, asked.judge, setting=asked.setting)
    print(
        f"{asked.setting}: {asked.judge} exposures of {asked.frames} x {asked.size} x {asked.size}; "
        "completeness of telegraph pixels that flip at least thrice, by amplitude [sigma]; hits of 6 sigma"
    )
    with pd.option_context("display.float_format", "{:.3f}".format):
        print(table.T.to_string(header=["without", "with history"]))


if __name__ == "__main__":
    main()
