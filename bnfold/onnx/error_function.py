"""The error function in float64 by published rational approximations, within 1.5 units of its last place.

With z = x^2: up to 0.84375 erf(x) = x + x * P(z)/Q(z), those of FreeBSD's msun (s_erf.c, Sun Microsystems 1993); from
there on 1 - exp(-z) * P(|x|)/Q(|x|) with the sign of x, those of W. J. Cody (Rational Chebyshev approximations for the
error function, Mathematics of Computation 23, 1969). From 6 on it is 1 to the last place.
"""

from __future__ import annotations

import numpy as np

from bnfold.net import Array

Polynomials = tuple[tuple[float, ...], tuple[float, ...]]
"""Dividend and divisor, the coefficients of the highest powers first."""

SMALL, ONE = 0.84375, 6.0
NEAR: Polynomials = (
    (
        *(-2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02),
        *(-3.25042107247001499370e-01, 1.28379167095512558561e-01),
    ),
    (
        *(-3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03),
        *(6.50222499887672944485e-02, 3.97917223959155352819e-01, 1.0),
    ),
)
FAR: Polynomials = (
    (
        *(2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1),
        *(2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3),
        1.23033935479799725e3,
    ),
    (
        *(1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3),
        *(3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
    ),
)
PIECE = 1 << 14
"""Values that are computed at once, so that what stands between stays in the processor's cache."""


def erf(x: Array) -> Array:
    """`2/sqrt(pi)` times the integral of `exp(-t^2)` from 0 to x, of any shape, in the type of x."""
    y, values = np.empty(x.shape, x.dtype), np.ravel(x)
    for start in range(0, x.size, PIECE):
        some = values[start : start + PIECE].astype(np.float64, copy=False)
        size = np.minimum(np.abs(some), ONE)
        near = np.copysign(size, some)
        near += near * _ratio(NEAR, np.minimum(size, SMALL) ** 2)
        far = np.flatnonzero(size > SMALL)
        size = size[far]
        near[far] = np.copysign(1 - np.exp(-size * size) * _ratio(FAR, size), some[far])
        y.reshape(-1)[start : start + PIECE] = near
    return y


def gelu(x: Array, *, by_tanh: bool = False) -> Array:
    """`x/2 * (1 + erf(x/sqrt(2)))`, or with `tanh(sqrt(2/pi)*(x + 0.044715*x^3))` in the place of erf."""
    share = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)) if by_tanh else erf(x / np.sqrt(2))
    return np.asarray(x / 2 * (1 + share))


def _ratio(of: Polynomials, x: Array) -> Array:
    made: list[Array] = []
    for first, *others in of:
        made.append(np.full_like(x, first))
        for other in others:
            made[-1] *= x
            made[-1] += other
    made[0] /= made[1]
    return made[0]
