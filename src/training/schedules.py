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


def step_decay(progress: float, steps: int, factor: float = 0.1) -> float:
    """Return factor^n, n the number of completed parts of the run, which is divided into `steps` equal parts."""
    return factor ** min(int(progress * steps), steps - 1)
