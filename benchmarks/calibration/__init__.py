"""How far training-free scores can be trusted on one's own data: a sample is trained there."""
