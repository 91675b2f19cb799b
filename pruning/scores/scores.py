"""Importance per unit. For weights a sketch of each site's values, and a way to stream the values again.

The bits of a non-negative float32, read as an integer, have the order of the float: they are the key of a score, and
their upper half is a bin of a histogram that needs no range to be chosen.
"""

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pruning.errors import Refused
from pruning.network.fingerprint import stamp
from pruning.network.subject import Subject
from pruning.progress import Looked
from pruning.scores.repeats import spearman
from pruning.scores.sketch import BINS, FINITE, Pool, Sketch, histogram
from pruning.units.catalog import Catalog
from pruning.units.site import Site

MEND = "Load the model again, or find the merge or training that broke it."
T = TypeVar("T")


@dataclass(frozen=True)
class Curve:
    """A denoiser's loss at single timesteps, and which of them a method listens to."""

    steps: tuple[int, ...]
    losses: tuple[float, ...]  # mean squared error over a batch
    threshold: float  # of the largest loss
    counts: tuple[bool, ...]
    levels: int  # timesteps of the whole schedule


@dataclass(frozen=True, eq=False)
class SiteScores:
    """Scores of a site, or of a piece of it, never negative.

    ``values`` are (units,) for larger units. For weights they are (*rows, inputs), all of the site or a piece of it,
    from output channel ``start`` on; the pieces of a site follow each other. ``profile`` is what the site's scores
    come to in each timestep bucket, (buckets,), the bucket with the least noise first, where the method knows it.
    ``halves`` works out what either half of the samples gives the same units, or some of many weights, (n,) each; it
    stands beside the first piece, of a method that sees data.
    """

    site: Site
    values: Tensor
    start: int = 0
    profile: Tensor | None = None
    halves: Callable[[], tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True, eq=False)
class Scores:
    """All sites of a catalog, scored by one criterion with one seed."""

    subject: Subject
    catalog: Catalog
    criterion: Any
    sketches: Mapping[str, Sketch]  # of weight sites
    values: Mapping[str, Tensor]  # of larger units
    calibration: Any = None
    profiles: Mapping[str, Tensor] = field(default_factory=dict)  # site -> (buckets,), where the method knows it
    curve: Curve | None = None  # the loss at single timesteps, of a method that listens to some
    repeats: Mapping[str, float] = field(default_factory=dict)  # site -> Spearman's correlation of both halves' scores
    stamp: tuple = ()  # of the network's tensors when they were scored
    _known: dict[Any, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """The memory that sketches and values take, with the sums that are made of sketches."""
        return sum(t.numel() * t.element_size() for t in (*(s.counts for s in self.sketches.values()),
                                                          *self.values.values())) * 2

    @property
    def repeatability(self) -> float | None:
        """The rank correlation, -1 to 1, between scores by one half of the samples and by the other: the median of the
        sites. All samples together repeat better than either half. None for methods that see no data, for one sample,
        and where memory has no room for gradients twice.
        """
        return median(self.repeats.values()) if self.repeats else None

    def stream(self, names: Iterable[str]) -> Iterator[SiteScores]:
        """The scores of some sites again, piece by piece."""
        return streamed(self.criterion, self.subject, self.catalog.only(*names), self.calibration)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What follows from the scores alone, made once."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def pool(self, names: Sequence[str]) -> Pool:
        """The sketches of some sites side by side; those of several sites are kept, since every ratio asks for them."""
        def make() -> Pool:
            return Pool.of([self.sketches[name] for name in names])

        return make() if len(names) == 1 else self.once(tuple(names), make)

    def whole(self, name: str) -> Tensor:
        """The scores of one weight site again, (*rows, inputs)."""
        return torch.cat([scored.values for scored in self.stream([name])])


def streamed(criterion: Any, subject: Subject, catalog: Catalog, calibration: Any) -> Iterator[SiteScores]:
    """A criterion's scores, piece by piece, without its progress."""
    return (event for event in criterion(subject, catalog, calibration) if isinstance(event, SiteScores))


def collecting(subject: Subject, catalog: Catalog, criterion: Any, calibration: Any = None
               ) -> Generator[Looked, None, Scores]:
    """Run a criterion over a catalog, keeping sketches of the large sites and values of the small ones.

    Closing the generator stops the work.

    Raises:
        Refused: a weight, or a score, is NaN or infinite; the sentence names its layer.
    """
    check_weights(subject.net, seen={site.tensor for site in catalog if site.single}
                  if getattr(criterion, "reads", "") == "weights" else set())
    sketches, values, profiles, repeats, curve = {}, {}, {}, {}, None
    for name, events in groupby(criterion(subject, catalog, calibration), _whose):
        if name is None:
            for event in events:
                if isinstance(event, Curve):
                    curve = event
                else:
                    yield event
            continue
        counts = torch.zeros(BINS, dtype=torch.long)
        for scored in events:
            if scored.site.single:
                counts += histogram(scored.values)
            else:
                values[name] = scored.values
            if scored.profile is not None:
                profiles[name] = scored.profile
            if scored.halves is not None and (agreed := spearman(*scored.halves())) is not None:
                repeats[name] = agreed
        if name not in values:
            sketches[name] = Sketch.trimmed(counts)
        check_finite(subject.net, catalog.sites[name], values.get(name), sketches.get(name))
        yield Looked(len(sketches) + len(values), len(catalog.sites), "scoring")
    return Scores(subject, catalog, criterion, sketches, values, calibration, profiles, curve, repeats,
                  stamp(subject.net))


def check_weights(net: nn.Module, seen: Collection[str] = ()) -> None:
    """Refuse a network with a weight that is NaN or infinite; those ``seen`` elsewhere are not looked at.

    Raises:
        Refused: the sentence names the tensor.
    """
    for name, tensor in net.named_parameters():
        if name not in seen and not finite(tensor.detach()):
            raise Refused(f"{name} has values that are NaN or infinite, so this model cannot draw anything.", MEND)


def finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite. A sum says so in one pass, unless it grows too large itself."""
    return not tensor.is_floating_point() or bool(tensor.sum(dtype=torch.float32).isfinite()) or bool(
        tensor.isfinite().all())


def check_finite(net: nn.Module, site: Site, values: Tensor | None, sketch: Sketch | None) -> None:
    """Refuse scores of one site that are NaN, infinite or below zero: those of units, or a sketch of weights'.

    Raises:
        Refused: the sentence names the layer, and says whether its weights are to blame or what it was given.
    """
    if (sketch is None or sketch.first + len(sketch.counts) <= FINITE) and (
            values is None or bool(((values >= 0) & (values < torch.inf)).all())):
        return
    for tensor in dict.fromkeys(member.tensor for member in site.members):
        if not finite(net.get_parameter(tensor).detach()):
            raise Refused(f"{tensor} has values that are NaN or infinite, so this model cannot draw anything.", MEND)
    raise Refused(f"The scores of {site.name} are NaN, infinite or below zero, though its weights are not.",
                  "What it is given may be too large for its type: load the model in float32, or choose other "
                  "calibration samples.")


def _whose(event: Looked | Curve | SiteScores) -> str | None:
    return event.site.name if isinstance(event, SiteScores) else None
