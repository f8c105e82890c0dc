"""Find and check the run that a command resumes."""
