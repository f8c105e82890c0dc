"""Learning-rate schedules: factors of the rate as functions of the run's progress, from 0 to 1.

They depend on the progress only, so they have no state in a checkpoint, and a run resumed with another length follows
the new schedule at once.
"""


def constant(progress: float) -> float:
    """Return 1."""
    return 1.0


def linear_to_zero(progress: float) -> float:
    """Return 1 - progress."""
    return 1.0 - progress
