"""Noise of a pixel: moderated variance, significance of a statistic, and rho = Poisson over read variance."""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

import numpy as np

from .jit import exact
from .lanes import LANES

f4 = np.float32


@exact
def wallace(t, nu, log):
    """The formula of Wallace for ``log`` = log(1 + t^2 / nu)."""
    size = (f4(8) * nu + f4(1)) / (f4(8) * nu + f4(3)) * f4(math.sqrt(nu * log))
    return size if t >= 0 else -size


@exact
def gaussian_near(t, nu):
    """:func:`gaussian_equivalent` where ``t^2 / nu`` is at most 0.05, without a logarithm."""
    u = t * t / nu
    return wallace(t, nu, u * (f4(1) - u * (f4(0.5) - u * (f4(1 / 3) - u * f4(0.25)))))


@exact
def gaussian_equivalent(t, nu):
    """The Gaussian quantile of a Student t variate with ``nu`` degrees of freedom, good far in the tail.

    Source: Wallace 1959, Ann. Math. Stat. 30 1121. The logarithm is a series where that is exact enough.
    """
    if t * t <= f4(0.05) * nu:
        return gaussian_near(t, nu)
    return wallace(t, nu, f4(math.log1p(t * t / nu)))


@exact
def standardise(raw, rss, m, variance, dof, noisy):
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


@exact
def standardise_lanes(raw, rss, m, variance, dof, noisy, z, noise, t, nu):
    """:func:`standardise` for the lanes of a tile, in loops that vectorise; ``t`` and ``nu`` are scratch."""
    own = f4(max(m - 2, 1))
    for j in range(LANES):
        v = max(rss[j] - raw[j] * raw[j], f4(1e-3)) / own
        keeps = v > noisy[j] * variance[j]
        pooled = (own * v + dof[j] * variance[j]) / (own + dof[j])
        noise[j] = v if keeps else pooled
        nu[j] = own if keeps else own + dof[j]
    for j in range(LANES):
        t[j] = raw[j] / f4(math.sqrt(noise[j]))
        z[j] = gaussian_near(t[j], nu[j])
    for j in range(LANES):
        if t[j] * t[j] > f4(0.05) * nu[j]:
            z[j] = gaussian_equivalent(t[j], nu[j])


@exact
def rho_bin(slope, poisson, rho_variance, edges):
    """Bin of ``rho = slope * poisson / rho_variance`` between increasing ``edges``."""
    rho = slope * poisson / rho_variance
    r = 0
    while r < edges.size and rho > edges[r]:
        r += 1
    return r


@exact
def rho_bins(slope, poisson, rho_variance, edges, rho, bins):
    """:func:`rho_bin` for the lanes of a tile; returns the last bin."""
    for j in range(LANES):
        rho[j] = slope[j] * poisson[j] / rho_variance[j]
        bins[j] = np.int32(0)
    for last in range(edges.size):
        edge, more = edges[last], np.int32(0)
        for j in range(LANES):
            q = np.int32(rho[j] > edge)
            bins[j] = np.int32(bins[j] + q)
            more |= q
        if more == 0:
            return last
    return edges.size
