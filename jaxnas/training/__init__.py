"""Training many candidates in one compiled program."""
