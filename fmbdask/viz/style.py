"""How figures look: one colour, marker and name for each kind of event, and one style for everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib as mpl

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Kind:
    """One kind of event: its code in masks, its name in tables, and how it is drawn."""

    code: int
    name: str
    label: str
    plural: str
    colour: str
    marker: str


#: Three hues that stay apart for colour-blind readers and on a grey image; the markers differ as well.
KINDS = (
    Kind(1, "cosmic_ray", "cosmic ray", "cosmic rays", "#f5a000", "o"),
    Kind(2, "telegraph_noise", "telegraph noise", "telegraph pixels", "#1aa7c7", "s"),
    Kind(3, "snowball", "snowball", "snowballs", "#e6317d", "D"),
)
#: Images run from black to white in equal steps of lightness: event colours stand out on every level.
IMAGE_MAP = "gray"
#: Images without markers on them.
DEEP_MAP = "cividis"
INK = "#222831"
FAINT = "#8a929c"

SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "image.origin": "lower",
    "image.interpolation": "nearest",
    "figure.dpi": 110.0,
    "savefig.dpi": 140.0,
    "savefig.bbox": "tight",
    "figure.facecolor": "white",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in the style of the house without changing the style of anyone else in the process."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(SETTINGS):
            return draw(*args, **kwargs)

    return inside
