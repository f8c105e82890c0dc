"""The papers' tables and figures beside our runs of their rows."""
