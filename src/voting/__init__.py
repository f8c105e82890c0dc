"""User studies: people see results side by side and pick the most plausible; picks become shares of votes."""
