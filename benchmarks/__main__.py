"""Run every benchmark, one after the other."""

from benchmarks import kernels, memory, overhead, power, preview, scale, slider, start, steps, stream, width

for benchmark in (start, slider, preview, power, overhead, kernels, steps, scale, stream, width, memory):
    benchmark.main()
