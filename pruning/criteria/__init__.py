"""What a unit is worth. One file a criterion; a criterion only scores.

``METHODS`` has criteria and published systems alike: both are asked for by name. What a method's file needs besides is
handed on from here.
"""

from pruning.network.subject import Subject
from pruning.progress import Looked
from pruning.registry import Registry, knob
from pruning.scores.scores import SiteScores
from pruning.types import Calibration
from pruning.units.catalog import Catalog

METHODS = Registry("method")

__all__ = ["METHODS", "Calibration", "Catalog", "Looked", "SiteScores", "Subject", "knob"]
