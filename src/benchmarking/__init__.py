"""Benchmarks: latency, memory and work of networks, training steps and loaders, one record each."""
