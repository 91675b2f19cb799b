"""How a ratio is divided over the layers: a file for each way, and what they share.

Knows scores and counts. Of equal scores the earliest go, so that a higher ratio removes a superset (of an N:M group or
a row, the earliest stay). With ``of`` other than units, single layers are off by a unit, so that the whole is not:
there nesting holds but for that unit.

What layers or rows are asked one by one (the layer and row spreads of units, a layer's own ratio, what the spread by
sensitivity writes down) each meets within half a unit, so the total may be off by the sum of these roundings. All other
totals are met within one unit, those of the isomorphic spread within one of each kind; a unit of rows is one of each.
"""

from pruning.registry import Registry

SPREADS = Registry("spread")
