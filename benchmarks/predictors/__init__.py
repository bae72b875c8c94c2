"""How well surrogate predictors order a table's architectures, by the number of labels."""
