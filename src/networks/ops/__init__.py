"""Fast operations shared by layers."""
