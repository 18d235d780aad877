"""Rules and network as one opinion.

The two look at the same spots and are wrong in different crystals, so the evidence of each counts
to a power below one, and that of the rules, which are nearly certain where a cell fits, only but
for a share of doubt in which it says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from diskern.symmetry.posterior import Prior, of_symbols

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """How much each opinion counts; chosen on crystals that were held out of training.

    Attributes
    ----------
    rules : power of the rules' evidence.
    network : power of the network's evidence.
    doubt : share of cases in which the rules are not believed.
    """

    rules: float = 0.6
    network: float = 0.5
    doubt: float = 0.1


@dataclass(frozen=True, eq=False)
class Witness:
    """What a network says of the patterns that the rules are asked about.

    Attributes
    ----------
    log_likelihood : (122,) of the diffraction symbols.
    weights : of the two opinions.
    """

    log_likelihood: Floats
    weights: Weights = field(default_factory=Weights)

    def joined(self, rules: Floats) -> Floats:
        """(122,) log-likelihood of both from the log evidence that the rules find."""
        return joined_evidence(rules, self.log_likelihood, self.weights)


def joined_evidence(rules: Floats, network: Floats, weights: Weights | None = None) -> Floats:
    """(..., 122) log-likelihoods of both from the log evidence of each.

    Symbols that the rules exclude (-inf) keep what the doubt leaves them.
    """
    weights = weights or Weights()
    return weights.network * network + _doubted(rules, weights.rules, weights.doubt)


def _doubted(rules: Floats, power: float, doubt: float) -> Floats:
    """Log-likelihood ratio of the rules' answer to none, every symbol as likely by `Prior`."""
    even = of_symbols(Prior().of_groups())
    with np.errstate(divide="ignore"):
        posterior = power * rules + np.log(even)
        posterior = posterior - logsumexp(posterior, axis=-1, keepdims=True)
        believed = np.log1p(-doubt) + posterior - np.log(even)
        return np.asarray(np.logaddexp(believed, np.log(doubt)))
