"""What goes, exactly: a file for each way to write it down, and how a plan carries it out."""

from pruning.registry import Registry

DECISIONS = Registry("kind of decision")
