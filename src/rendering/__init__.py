"""Image grids, curves, figures of networks and page templates."""
