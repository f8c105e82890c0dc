"""The layers of the papers, each independent of the model family that uses it."""
