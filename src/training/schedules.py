"""Learning-rate schedules: factors of the rate as functions of how much of the run is done, from 0 to 1.

Closed forms of the progress alone: nothing to save or restore, and a run resumed with another length has the rate of
its new length at once.
"""


def constant(progress: float) -> float:
    """1 throughout."""
    return 1.0


def linear_to_zero(progress: float) -> float:
    """1 - progress."""
    return 1.0 - progress
