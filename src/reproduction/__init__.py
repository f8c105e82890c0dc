"""Runs of the rows of the papers' tables and figures, and the comparison of their results with the printed ones."""
