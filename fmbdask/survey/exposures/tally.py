"""What a demo found, counted against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tally:
    """One kind of event over all exposures.

    Attributes
    ----------
    expected, right : int
        True events strong enough to be found by anyone, and those of them that were found.
    found, wrong : int
        Detections, and those that match no true event.
    """

    expected: int = 0
    right: int = 0
    found: int = 0
    wrong: int = 0

    def plus(self, other: Tally) -> Tally:
        """Sum of two tallies."""
        return Tally(
            self.expected + other.expected,
            self.right + other.right,
            self.found + other.found,
            self.wrong + other.wrong,
        )

    @property
    def completeness(self) -> str:
        """Share of the expected events that was found, as a percentage."""
        return f"{100 * self.right / self.expected:.1f} %" if self.expected else "-"

    @property
    def purity(self) -> str:
        """Share of right ones among the detections that are right or wrong, as a percentage."""
        judged = self.right + self.wrong
        return f"{100 * self.right / judged:.1f} %" if judged else "-"


@dataclass(frozen=True)
class Demo:
    """What a demo found and where it wrote it.

    ``tallies`` are those of each kind; ``network`` is that of what the network found beside the rules, None
    where none could be asked.
    """

    out: Path
    tallies: dict[str, Tally]
    network: Tally | None
    numbers: dict[str, dict[str, int]]
    frames: int
    edge: int
    seconds: float

    @property
    def size(self) -> str:
        """Size of an exposure, in words."""
        return f"{self.frames} frames of {self.edge} x {self.edge} pixels"

    @property
    def beside(self) -> str:
        """What the network found beside the rules, in a sentence."""
        if self.network is None:
            return "No network was asked for fainter hits: that needs the extra models (fmbdask[models])."
        found, wrong = self.network.found, self.network.wrong
        return (
            f"{found} of the cosmic rays are too faint for the rules and were found by the network; "
            f"{found - wrong} of these are in the truth."
        )

    def summary(self) -> str:
        """Table of what was found against the truth, and where to look."""
        from fmbdask.viz.style import KINDS

        row = "{:<18}{:>14}{:>8}{:>8}{:>15}{:>9}".format
        lines = [row("", "in the truth", "found", "right", "completeness", "purity")]
        for kind in KINDS:
            tally = self.tallies[kind.name]
            shown = (tally.expected, tally.found, tally.right, tally.completeness, tally.purity)
            lines.append(row(kind.plural, *shown))
        lines += [
            "",
            self.beside,
            "",
            f"Catalogue   {self.out / 'catalog' / 'events.parquet'}",
            f"Figures     {self.out / 'figures'}",
            f"Report      {self.out / 'report.html'}",
            f"{len(self.numbers)} exposures of {self.size} in {self.seconds:.0f} s.",
        ]
        return "\n".join(lines)
