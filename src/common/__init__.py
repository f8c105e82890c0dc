"""What every room stands on: errors, atomic files, devices, distributed helpers, provenance."""
