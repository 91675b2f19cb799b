"""Meeting an amount that does not add up: where channels of crossing streams go, what each saves depends on the others.

Knows numbers; what goes at a ratio, and what that saves, is told by whoever asks.
"""

from collections.abc import Callable, Mapping

Gone = dict[str, int]
NEAR = 1e-7  # ratios this close are one


def nearest(gone: Callable[[float], Gone], saved: Callable[[Mapping[str, int]], int], amount: float) -> Gone | None:
    """What goes so that about ``amount`` is saved: within what one step of one site saves. None: there is not so much.

    ``gone`` must never remove less at a higher ratio. Of the last sites that take a step at one ratio, as many do as
    fit, the largest first.
    """
    low, high = 0.0, 1 - NEAR
    least, most = gone(low), gone(high)
    if not saved(least) <= amount <= saved(most):
        return None
    while high - low > NEAR and least != most:
        middle = (low + high) / 2
        found = gone(middle)
        if saved(found) <= amount:
            low, least = middle, found
        else:
            high, most = middle, found
    sizes = {name: saved(least | {name: most[name]}) for name in most if most[name] != least.get(name, 0)}
    best = least
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        more = best | {name: most[name]}
        if abs(saved(more) - amount) <= abs(saved(best) - amount):
            best = more
    return best
