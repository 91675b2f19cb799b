"""Figures with their peer in the same run: ``python -m benchmarks`` runs all, prints tables and writes JSON."""
