"""Noise of a pixel: moderated variance, significance of a statistic, and rho = Poisson over read variance."""

from __future__ import annotations

import math

import numpy as np

from .jit import kernel

f4 = np.float32


@kernel
def gaussian_equivalent(t, nu):  # type: ignore[no-untyped-def]
    """The Gaussian quantile of a Student t variate with ``nu`` degrees of freedom, good far in the tail.

    Source: Wallace 1959, Ann. Math. Stat. 30 1121. The logarithm is a series where that is exact enough.
    """
    u = t * t / nu
    if u < f4(0.05):
        log = u * (f4(1) - u * (f4(0.5) - u * (f4(1 / 3) - u * f4(0.25))))
    else:
        log = f4(math.log1p(u))
    size = (f4(8) * nu + f4(1)) / (f4(8) * nu + f4(3)) * math.sqrt(nu * log)
    return size if t >= 0 else -size


@kernel
def standardise(raw, rss, m, variance, dof, noisy):  # type: ignore[no-untyped-def]
    """Significance of a step [sigma] from its raw statistic and the residual sum of squares without it.

    The variance is moderated: the pixel's own with ``m - 2`` degrees of freedom and the prior ``variance``
    with ``dof``; a pixel whose own exceeds ``noisy`` times the prior keeps its own. Returns significance
    and variance of one read.

    Source: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3 3 (moderated t).
    """
    nu = f4(max(m - 2, 1))
    own = max(rss - raw * raw, f4(1e-3)) / nu
    if own > noisy * variance:
        return gaussian_equivalent(raw / math.sqrt(own), nu), own
    moderated = (nu * own + dof * variance) / (nu + dof)
    return gaussian_equivalent(raw / math.sqrt(moderated), nu + dof), moderated


@kernel
def rho_bin(slope, poisson, rho_variance, edges):  # type: ignore[no-untyped-def]
    """Bin of ``rho = slope * poisson / rho_variance`` between increasing ``edges``."""
    rho = slope * poisson / rho_variance
    if not rho > edges[0]:
        return 0
    a = 0
    b = edges.size
    while a < b:
        c = (a + b) // 2
        if rho > edges[c]:
            a = c + 1
        else:
            b = c
    return a
