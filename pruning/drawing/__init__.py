"""Drawing pictures: what stands around a denoiser, its samplers, and the stream of steps."""
