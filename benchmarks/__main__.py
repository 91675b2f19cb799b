"""Run every benchmark, one after the other."""

from benchmarks import kernels, overhead, start, steps

for benchmark in (start, overhead, kernels, steps):
    benchmark.main()
