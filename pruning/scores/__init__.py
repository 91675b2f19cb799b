"""Importance per unit: scores, how they are kept, and how far they repeat."""

from pruning.scores.scores import Curve, Scores, SiteScores

__all__ = ["Curve", "Scores", "SiteScores"]
