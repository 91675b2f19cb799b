"""What may go: kinds of units, where they stand in a network, and what each costs."""

from pruning.registry import Registry

UNITS = Registry("kind of unit")
