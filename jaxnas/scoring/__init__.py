"""Scoring architectures without training them: two executors, and how scores become a ranking."""
