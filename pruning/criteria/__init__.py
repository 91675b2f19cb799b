"""What a unit is worth. One file a criterion; a criterion only scores.

``METHODS`` has criteria and published systems alike: both are asked for by name.
"""

from pruning.registry import Registry

METHODS = Registry("method")
