"""The clock: runs in pairs, intervals of their ratio, where the time goes, and which kernels a machine has."""
