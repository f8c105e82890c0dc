"""Where holes come from: generators, folders and frozen banks of masks, and the bins of hole ratios."""
