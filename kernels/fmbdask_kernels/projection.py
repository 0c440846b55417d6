"""The algebra of steps in one ramp, O(N) a step: what the step detector and the telegraph model share.

With ``P`` the inverse covariance of the differences after the fitted regressors are projected out, one more
step at difference k lowers chi^2 by ``(P d)_k^2 / P_kk``; accepting it takes one column ``w = P e_k`` off
both, so no matrix larger than the number of steps is ever formed. The inverse of a tridiagonal matrix falls
off from its diagonal by a product of ratios, which makes a column as cheap as a running product.

The variance is moderated by a prior (Smyth 2004, limma) and the t value is turned into a Gaussian equivalent
by the formula of Wallace (1959).
"""

# compiled functions carry no annotations
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math

from .covariance import factor, solve
from .jit import kernel, stage

#: Rows of the work array of one pixel, each over the differences of a ramp.
WEIGHT, LINK, UNIT, SCALE, DIAGONAL, DECAY, SOLVED, FREE, VALUE, DIFFERENCE, COLUMN = range(11)
WORK_ROWS = 11

#: Rows of the array of fitted regressors, beside their triangular Gram factor ``cross``: product with the
#: data when taken in, with the slope's column, amplitude and its variance in the joint fit.
TOP, ALONG, AMPLITUDE, SPREAD = range(4)
TERM_ROWS = 4

#: A column of the inverse is cut where it falls below this: smaller numbers would only cost time.
TINY = 1e-40

#: Share of a diagonal element below which a difference is taken as already explained.
DEGENERATE = 1e-9


@stage
def copy(source, n, target):
    """Copy the first ``n`` numbers; array assignment would bring its error messages to be compiled."""
    for i in range(n):
        target[i] = source[i]


@stage
def gaussian(t, dof):
    """Gaussian equivalent of a t value with ``dof`` degrees of freedom (Wallace 1959)."""
    if math.isinf(dof):
        return t
    z = (8 * dof + 1) / (8 * dof + 3) * math.sqrt(dof * math.log1p(t * t / dof))
    return z if t > 0 else -z


@stage
def moderated(rss, free, variance, dof):
    """Variance from ``rss`` over ``free`` degrees of freedom and a prior worth ``dof`` of them."""
    if math.isinf(dof):
        return variance
    return (max(rss, 0.0) + dof * variance) / (free + dof)


@stage
def differences(ramp, used, index, d):
    """Fill ``index`` with the finite reads in use and ``d`` with their differences; returns their number."""
    n = 0
    last = 0.0
    for i in range(ramp.size):
        value = float(ramp[i])
        if used[i] and math.isfinite(value):
            if n:
                d[n - 1] = value - last
            last = value
            index[n] = i
            n += 1
    return n


@stage
def recall(index, known, n, n_known):
    """Whether two lists of reads, ``n`` and ``n_known`` long, are equal; ``known`` takes over the new one."""
    equal = n == n_known
    for i in range(n):
        equal &= index[i] == known[i]
        known[i] = index[i]
    return equal


@kernel
def tables(model, m, rho, work):
    """Everything that depends on reads and rho only; returns ``dt' C^-1 dt``."""
    total = factor(model, m, rho, work[WEIGHT], work[LINK], work[UNIT], work[SCALE])
    for i in range(m):
        scale, unit = work[SCALE, i], work[UNIT, i]
        work[DIAGONAL, i] = unit * unit / total + (1.0 / (scale * scale) if scale > 0 else 0.0)
        work[DECAY, i] = work[LINK, i] * work[WEIGHT, i]
    return total


@stage
def column(k, m, total, work, out):
    """Column k of the inverse covariance with the slope projected out."""
    decay, diagonal, unit = work[DECAY], work[DIAGONAL], work[UNIT]
    share = unit[k] / total
    for i in range(m):
        out[i] = -share * unit[i]
    product = diagonal[k]
    out[k] += product
    for i in range(k - 1, -1, -1):
        product *= decay[i]
        if abs(product) < TINY:
            break
        out[i] += product
    product = 1.0
    for i in range(k, m - 1):
        product *= decay[i]
        if abs(product) < TINY:
            break
        out[i + 1] += product * diagonal[i + 1]


@stage
def add(k, count, m, total, work, basis, cross, terms, where):
    """Take a step at difference ``k`` into the model; returns by how much chi^2 falls."""
    column(k, m, total, work, basis[count])
    for i in range(count):
        cross[i, count] = basis[i, k]
    where[count] = k
    terms[ALONG, count] = work[UNIT, k]
    return take(count, work[SOLVED, k], basis[count, k], m, work, basis, cross, terms)


@stage
def take(count, moment, information, m, work, basis, cross, terms):
    """Take regressor ``g`` number ``count`` into the model; returns by how much chi^2 falls.

    ``basis[count]`` holds ``P g`` with nothing but the slope projected out, ``cross[i, count]`` the product
    of ``g`` with the earlier ``basis[i]``, ``information`` that with its own, ``moment`` that with ``P d``.
    """
    w = basis[count]
    for i in range(count):
        share = cross[i, count] / cross[i, i]
        information -= share * cross[i, count]
        for j in range(m):
            w[j] -= share * basis[i, j]
    solved, free = work[SOLVED], work[FREE]
    cross[count, count] = information
    terms[TOP, count] = moment
    amplitude, inverse = moment / information, 1.0 / information
    for j in range(m):
        solved[j] -= amplitude * w[j]
        free[j] -= w[j] * w[j] * inverse
    return moment * amplitude


@kernel
def restart(m, total, work):
    """Project the slope, and nothing else, out of the data; returns (slope, chi^2).

    An infinite ``total`` (here and in the other functions) holds the slope at zero.
    """
    solved, free, unit, d = work[SOLVED], work[FREE], work[UNIT], work[DIFFERENCE]
    square = solve(d, m, work[WEIGHT], work[LINK], solved)
    along = 0.0
    for i in range(m):
        along += unit[i] * d[i]
    slope = along / total
    for i in range(m):
        solved[i] -= slope * unit[i]
        free[i] = work[DIAGONAL, i] - unit[i] * unit[i] / total
    return slope, square - slope * along


@stage
def strongest(m, work):
    """Difference at which one more step explains most, and the fall of chi^2 there."""
    solved, free, value, diagonal = work[SOLVED], work[FREE], work[VALUE], work[DIAGONAL]
    for i in range(m):
        value[i] = solved[i] * solved[i] / free[i] if free[i] > DEGENERATE * diagonal[i] else 0.0
    best, where = 0.0, -1
    for i in range(m):
        if value[i] > best:
            best, where = value[i], i
    return where, best


@stage
def deepest(m, work):
    """Fall of chi^2 by the one negative step that explains most."""
    solved, free, value, diagonal = work[SOLVED], work[FREE], work[VALUE], work[DIAGONAL]
    for i in range(m):
        fall = min(solved[i], 0.0)
        value[i] = fall * fall / free[i] if free[i] > DEGENERATE * diagonal[i] else 0.0
    best = 0.0
    for i in range(m):
        best = max(best, value[i])
    return best


@stage
def joint(count, total, cross, inverse, terms):
    """Amplitudes of the joint fit and their variances; returns (change, variance) of the slope.

    The upper triangle of ``cross`` is the factor of the Gram matrix, inverted here.
    """
    top, along, amplitude, variance = terms[TOP], terms[ALONG], terms[AMPLITUDE], terms[SPREAD]
    for i in range(count - 1, -1, -1):
        pivot = cross[i, i]
        amplitude[i] = top[i] / pivot
        for j in range(i + 1, count):
            amplitude[i] -= amplitude[j] * cross[i, j] / pivot
        inverse[i, i] = 1.0
        variance[i] = 1.0 / pivot
        for j in range(i + 1, count):
            entry = 0.0
            for k in range(i + 1, j + 1):
                entry -= cross[i, k] / pivot * inverse[k, j]
            inverse[i, j] = entry
            variance[i] += entry * entry / cross[j, j]
    change, spread = 0.0, 1.0 / total
    for j in range(count):
        change -= amplitude[j] * along[j] / total
        entry = 0.0
        for i in range(j + 1):
            entry += along[i] / total * inverse[i, j]
        spread += entry * entry / cross[j, j]
    return change, spread
