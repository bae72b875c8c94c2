"""Search strategies: who proposes the next architectures. Pure functions and explicit states."""
