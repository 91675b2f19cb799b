"""What a unit is worth. One file a criterion; a criterion only scores."""

from pruning.registry import Registry

CRITERIA = Registry("method")
