"""N:M patterns: so many weights of each few neighbours along the inputs stay."""

import re

import torch
from torch import Tensor

from pruning.errors import Refused
from pruning.values import told

NM = re.compile("([0-9]{1,2}):([0-9]{1,2})")
WIDEST = 64  # M of an N:M pattern that is asked for; whole rows are wider


def kept_pattern(values: Tensor, pattern: str) -> Tensor:
    """Which weights of a site stay, (*rows, inputs) bool: the N highest of each M neighbours; ties keep the first."""
    n, m = map(int, pattern.split(":"))
    if m > WIDEST:
        rows = values.unflatten(-1, (-1, m))
        level = rows.kthvalue(m - n, -1, keepdim=True).values
        keep, ties = rows > level, rows == level
        missing = n - keep.sum(-1, keepdim=True)
        return (keep | (ties & (ties.cumsum(-1) <= missing))).flatten(-2)
    groups = values.unflatten(-1, (-1, m)).unbind(-1)
    keep = [sum((other >= mine).to(torch.int8) if j < i else (other > mine).to(torch.int8)
                for j, other in enumerate(groups) if j != i) < n for i, mine in enumerate(groups)]
    return torch.stack(keep, -1).flatten(-2)  # type: ignore[arg-type]


def parse_pattern(pattern: str) -> tuple[int, int]:
    """(2, 4) of "2:4".

    Raises:
        Refused: not of that form.
    """
    found = NM.fullmatch(pattern) if isinstance(pattern, str) else None
    n, m = map(int, found.groups()) if found else (0, 0)
    if not 0 < n < m <= WIDEST:
        raise Refused(f"{told(pattern)} is not an N:M pattern.", 'It reads "N:M", N kept of each M: 2:4, 1:4 or 4:8.')
    return n, m
