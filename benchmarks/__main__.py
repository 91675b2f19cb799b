"""Run every benchmark, one after the other."""

from benchmarks import kernels, memory, overhead, slider, start, steps

for benchmark in (start, slider, overhead, kernels, steps, memory):
    benchmark.main()
