"""What a recovery makes small. Every loss sees the same batch and gives one number to differentiate."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from pruning.calibration import samples
from pruning.calibration.call import Call
from pruning.observe.gradients import missed


@dataclass(frozen=True, eq=False)
class Batch:
    """One call, who learns from it, and who may teach it. Several losses share the student's one answer."""

    student: nn.Module
    teacher: nn.Module  # of the same kind, the dense one where there is one; nobody differentiates it
    call: Call  # on the student's device and in its type

    @cached_property
    def answer(self) -> Tensor:
        """What the student answers, float32, with what gradients need."""
        return samples.output(self.student, self.call)


Loss = Callable[[Batch], Tensor]
LOSSES: dict[str, Loss] = {}
TAUGHT = set[str]()  # those that compare with a teacher


def loss(needs: str = "") -> Callable[[Loss], Loss]:
    """Register a function as a loss by its name; ``needs="teacher"`` for one that means nothing without a teacher."""
    if needs not in ("", "teacher"):
        raise TypeError(f"a loss cannot need {needs!r}; it may need 'teacher'")

    def register(function: Loss) -> Loss:
        LOSSES[function.__name__] = function
        if needs:
            TAUGHT.add(function.__name__)
        return function

    return register


@loss()
def task(batch: Batch) -> Tensor:
    """The mean squared error of what the student denoises, as it was first trained."""
    return missed(batch.answer, batch.call)
