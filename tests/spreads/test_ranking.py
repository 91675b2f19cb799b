"""Sites ranked together: held to a plain sort, with what a weight is worth and what a layer may lose."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.scores.sketch import LOW, Pool, Sketch, keys
from pruning.spreads.ranking import Ranked, Ranking

VALUES = st.lists(st.sampled_from([0.0, 1.0, 1.0 + 2**-20, 1.001, 1.5, 2.0, 7.0]), min_size=1, max_size=12)


def ranked(parts, worth, most, amount):
    """The ranking of some lists of scores, and what one pass finds in the bins of its cut."""
    pool = Pool.of([Sketch.of(torch.tensor(part)) for part in parts])
    ranking = Ranking(pool, [Ranked(str(i), w, m) for i, (w, m) in enumerate(zip(worth, most, strict=True))], amount)
    found = {}
    for i, part in enumerate(parts):
        bits = keys(torch.tensor(part)) - (ranking.own[str(i)] << LOW)
        found[str(i)] = torch.bincount(bits[(bits >= 0) & (bits < 1 << LOW)], minlength=1 << LOW).cumsum(0).int()
    return ranking, ranking.entries(found)


def plainly(parts, worth, most, amount):
    """How many of each part go: in order of (score, part), as long as what is left pays for it."""
    gone = [0] * len(parts)
    for level in sorted({score for part in parts for score in part}):
        able = [min(part.count(level), m - g) for part, m, g in zip(parts, most, gone, strict=True)]
        all_ = sum(a * w for a, w in zip(able, worth, strict=True))
        take = able if all_ <= amount else []
        if all_ > amount:
            for a, w in zip(able, worth, strict=True):
                take.append(min(a, amount // w))
                amount -= take[-1] * w
        gone = [g + t for g, t in zip(gone, take, strict=True)]
        if all_ > amount and take is not able:
            break
        amount -= all_
    return gone


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_as_in_a_plain_sort(parts, data):
    worth = [data.draw(st.integers(1, 3)) for _ in parts]
    most = [data.draw(st.integers(0, len(part))) for part in parts]
    amount = data.draw(st.integers(0, sum(w * m for w, m in zip(worth, most, strict=True))))
    _, entries = ranked(parts, worth, most, amount)
    assert [entries.get(str(i), [0, 0, 0])[2] for i in range(len(parts))] == plainly(parts, worth, most, amount)


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_key_and_ties_say_the_same_as_the_count(parts, data):
    most = [max(0, len(part) - 1) for part in parts]
    _, entries = ranked(parts, [1] * len(parts), most, data.draw(st.integers(0, sum(most))))
    for i, part in enumerate(parts):
        if str(i) in entries:
            key, kept, gone = entries[str(i)]
            bits = keys(torch.tensor(part))
            assert int((bits <= key).sum()) - kept == gone


@given(st.lists(VALUES, min_size=1, max_size=4), st.data())
def test_sketches_alone_give_the_total_and_say_how_far_a_site_is_off(parts, data):
    most = [len(part) for part in parts]
    amount = data.draw(st.integers(0, sum(most)))
    ranking, entries = ranked(parts, [1] * len(parts), most, amount)
    about = ranking.about().tolist()
    assert sum(about) == amount
    exact = [entries.get(str(i), [0, 0, 0])[2] for i in range(len(parts))]
    assert all(abs(a - e) <= u for a, e, u in zip(about, exact, ranking.unsure().tolist(), strict=True))
