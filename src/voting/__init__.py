"""User studies: people pick the most plausible of several results, and their votes become shares."""
