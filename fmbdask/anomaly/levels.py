"""Alert levels: p-values as numbers from 0 to 1, and as names that operators act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError

#: Alerts by their codes, 0 and up; objects without a p-value have :data:`UNKNOWN`.
NAMES = ("normal", "warning", "critical")
UNKNOWN = -1
#: p-value and level of each knot.
KNOTS = ((1.0, 0.0), (0.05, 0.3), (0.001, 0.7), (1e-6, 1.0))


@dataclass(frozen=True)
class Levels:
    """Levels of p-values: piecewise linear in -log10 p between knots, and two thresholds.

    A level is a function of one p-value alone, so it means the same in every batch: with the defaults, 5 per
    cent of ordinary objects are warnings or worse, and 0.1 per cent are critical.

    Parameters
    ----------
    knots : sequence of (p, level)
        p falling from 1 to above 0, levels rising from 0 to 1; p-values below the last have level 1.
    warning, critical : float
        Levels from which an alert has these names, ``0 < warning < critical <= 1``.

    Raises
    ------
    ConfigError
        If knots or thresholds are not so.

    Notes
    -----
    Scores are unified over detectors by their probability, not by their range, after Kriegel et al. 2011,
    Interpreting and Unifying Outlier Scores (SIAM Data Mining, 13).

    Examples
    --------
    >>> levels = Levels()
    >>> found = levels.score([1.0, 0.05, 0.001, 1e-6, 1e-9])
    >>> found.round(3).tolist()
    [0.0, 0.3, 0.7, 1.0, 1.0]
    >>> levels.names(levels.codes(found)).tolist()
    ['normal', 'warning', 'critical', 'critical', 'critical']
    """

    knots: tuple[tuple[float, float], ...] = KNOTS
    warning: float = 0.3
    critical: float = 0.7

    def __post_init__(self) -> None:
        try:
            knots = tuple((float(p), float(level)) for p, level in self.knots)
            first, last = float(self.warning), float(self.critical)
        except (TypeError, ValueError):
            raise ConfigError("levels are made of numbers: give knots as pairs of p and level") from None
        p, level = np.array(knots, np.float64).reshape(-1, 2).T
        if len(p) < 2 or p[0] != 1.0 or not p[-1] > 0.0 or not (np.diff(p) < 0.0).all():
            raise ConfigError("p-values of knots must fall from 1 to above 0: give two knots or more so")
        if level[0] != 0.0 or level[-1] != 1.0 or not (np.diff(level) > 0.0).all():
            raise ConfigError("levels of knots must rise from 0 to 1: give each knot a higher one")
        if not 0.0 < first < last <= 1.0:
            raise ConfigError(
                f"a warning from {first:g} and critical from {last:g} cannot be: give 0 < warning < critical "
                "<= 1"
            )
        for name, value in (("knots", knots), ("warning", first), ("critical", last)):
            object.__setattr__(self, name, value)

    def score(self, p: Any) -> NDArray[np.float64]:
        """Levels of p-values of any shape; NaN stays.

        Parameters
        ----------
        p : array_like
            In (0, 1].

        Returns
        -------
        array
            In [0, 1], falling with p.
        """
        surprise, level = self._corners()
        with np.errstate(divide="ignore"):
            found: NDArray[np.float64] = np.interp(-np.log10(np.asarray(p, np.float64)), surprise, level)
        return found

    def p_value(self, level: Any) -> NDArray[np.float64]:
        """Inverse of :meth:`score`: the largest p-value of each level in [0, 1]; NaN stays."""
        surprise, known = self._corners()
        return np.power(10.0, -np.interp(np.asarray(level, np.float64), known, surprise))

    def codes(self, level: Any) -> NDArray[np.int8]:
        """Alerts of levels as places in :data:`NAMES`; :data:`UNKNOWN` where there is no level.

        Returns
        -------
        array of int8
        """
        values = np.asarray(level, np.float64)
        found = (values >= self.warning).astype(np.int8) + (values >= self.critical).astype(np.int8)
        return np.where(np.isnan(values), UNKNOWN, found).astype(np.int8)

    @staticmethod
    def names(codes: Any) -> NDArray[np.str_]:
        """Names of the codes of alerts: normal, warning, critical, or unknown where there was no score."""
        return np.array([*NAMES, "unknown"])[np.asarray(codes, np.int64)]

    def meta(self) -> dict[str, Any]:
        """What is saved with a model; :meth:`of` is its inverse."""
        return {"knots": [list(k) for k in self.knots], "warning": self.warning, "critical": self.critical}

    @staticmethod
    def of(meta: dict[str, Any]) -> Levels:
        """Inverse of :meth:`meta`."""
        return Levels(tuple((k[0], k[1]) for k in meta["knots"]), meta["warning"], meta["critical"])

    def _corners(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        p, level = np.array(self.knots, np.float64).T
        return -np.log10(p), level
