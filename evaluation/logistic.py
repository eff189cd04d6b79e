"""Logistic regression with a ridge, on few pieces of evidence of known sign.

Weights are of standardised evidence while they are fitted, so that one ridge suits all. What can only
speak for a thing never gets a weight below 0: else a chance of few labels would make a better match
count as less relevant.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from regard.core.relevance import LogisticModel

Float64Array = npt.NDArray[np.float64]

_RIDGE = 1.0


def fit_logistic(
    names: Sequence[str],
    evidence: Float64Array,
    outcomes: Float64Array,
    weights: Float64Array,
    either_sign: Collection[str] = (),
) -> LogisticModel:
    """The model that maximises the likelihood of `outcomes` (n,), 0 or 1, each times its weight.

    `evidence` (n, k) has a column a name. Those not in `either_sign` get weights of 0 or above. Evidence
    that never varies gets no weight.
    """
    from scipy.optimize import minimize

    mean = np.average(evidence, axis=0, weights=weights)
    deviation = np.sqrt(np.average(np.square(evidence - mean), axis=0, weights=weights))
    scale = np.where(deviation > 1e-9, deviation, np.inf)
    z = (evidence - mean) / scale

    def loss(solution: Float64Array) -> tuple[float, Float64Array]:
        slopes = solution[:-1]
        logits = z @ slopes + solution[-1]
        excess = weights * (1 / (1 + np.exp(-logits.clip(-700, 700))) - outcomes)
        value = weights @ (np.logaddexp(0, logits) - outcomes * logits)
        value += _RIDGE / 2 * slopes @ slopes
        return float(value), np.append(z.T @ excess + _RIDGE * slopes, excess.sum())

    bounds = [(None if name in either_sign else 0.0, None) for name in names]
    solution = minimize(
        loss,
        np.zeros(len(names) + 1),
        jac=True,
        bounds=[*bounds, (None, None)],
        method="L-BFGS-B",
    ).x
    slopes = solution[:-1] / scale
    return LogisticModel(
        {name: float(slope) for name, slope in zip(names, slopes, strict=True) if slope},
        float(solution[-1] - slopes @ mean),
    )


def probabilities(
    model: LogisticModel, names: Sequence[str], evidence: Float64Array
) -> Float64Array:
    """What a model says of rows of evidence (n, k), whose columns are named; shape (n,)."""
    slopes = np.asarray([model.weights.get(name, 0.0) for name in names])
    logits = evidence @ slopes + model.constant
    return np.asarray(1 / (1 + np.exp(-logits.clip(-700, 700))))
