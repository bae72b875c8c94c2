"""Scoring architectures without training them: two executors, and how scores become a ranking."""

from jaxnas.scoring.combine import COMBINATIONS, ranks
from jaxnas.scoring.per_architecture import score_per_architecture
from jaxnas.scoring.shared_prefix import score_shared_prefix

__all__ = ["COMBINATIONS", "ranks", "score_per_architecture", "score_shared_prefix"]
