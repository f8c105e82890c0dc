"""Benchmarks: latency, memory and work of networks, training steps, loaders and mask generators, one record each."""
