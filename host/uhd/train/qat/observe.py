"""Finding the power-of-two step that loses least, from how much of a tensor lies in each octave.

Steps are powers of two, so where a tensor saturates is the border of an octave: counts, sums and squares of the octaves
[2**k, 2**(k+1)) of magnitudes are all that the squared error of every possible step depends on.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Octaves that are told apart; smaller magnitudes count as the lowest, larger ones as the highest.
LOWEST, HIGHEST = -60, 24
OCTAVES = HIGHEST - LOWEST + 1

#: Exponents that may be found.
FINEST, COARSEST = -40, 8

#: Elements of an activation that are looked at.
SAMPLE = 1 << 16


def octave_moments(x: Tensor, groups: int = 1) -> Tensor:
    """[groups, OCTAVES, 3] float64: count, sum and sum of squares of magnitudes, by octave.

    ``x`` is cut into ``groups`` equal runs of elements. Zeros, which every grid holds, are not counted.
    """
    size = x.detach().abs().reshape(groups, -1).double()
    octave = (torch.frexp(size).exponent.long() - 1).clamp(LOWEST, HIGHEST) - LOWEST
    cell = (octave + torch.arange(groups, device=x.device)[:, None] * OCTAVES).flatten()
    values = torch.stack([(size > 0).double(), size, size * size], -1).reshape(-1, 3)
    table = torch.zeros(groups * OCTAVES, 3, dtype=torch.float64, device=x.device)
    return table.index_add_(0, cell, values).reshape(groups, OCTAVES, 3)


def sampled(x: Tensor) -> Tensor:
    """About ``SAMPLE`` elements, evenly spread."""
    step = max(1, x.numel() // SAMPLE)
    return x.detach().reshape(-1)[:: step | 1]  # an odd step meets every channel


def squared_errors(moments: Tensor, bits: Tensor) -> Tensor:
    """[G, COARSEST - FINEST + 1]: expected squared error of every exponent for moments [G, OCTAVES, 3], bits [G].

    Below half a step a value is lost, up to the limit it is off by a twelfth of the squared step on average, beyond it
    by its distance from the limit.
    """
    exponent = torch.arange(FINEST, COARSEST + 1, device=moments.device)[None, :, None]
    octave = torch.arange(LOWEST, HIGHEST + 1, device=moments.device)[None, None, :]
    width = bits.long()[:, None, None]
    step = torch.exp2(exponent.double())
    limit = (torch.exp2(width.double() - 1) - 1) * step
    count, total, squares = (moments[:, None, :, i] for i in range(3))
    beyond = (squares - 2 * limit * total + limit * limit * count).clamp_min(0)
    error = torch.where(octave < exponent - 1, squares, count * step * step / 12)
    return torch.where(octave >= exponent + width - 1, beyond, error).sum(-1)


def best_exponents(moments: Tensor, bits: Tensor, otherwise: Tensor) -> Tensor:
    """[G] int32: the exponent with the smallest error; ``otherwise`` [G] where nothing but zeros was seen."""
    found = squared_errors(moments, bits).argmin(1).to(torch.int32) + FINEST
    return torch.where(moments[:, :, 0].sum(1) > 0, found, otherwise.to(torch.int32))
