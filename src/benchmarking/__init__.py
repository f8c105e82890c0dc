"""Measuring: seconds, bytes and operations of networks, training steps, loaders and mask generators, a record each."""
