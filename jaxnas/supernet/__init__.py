"""Super-nets: every candidate's weights once, trained together, inherited by each candidate.

`train_supernet` trains one, `evaluate_inherited` ranks candidates by its weights, and `inherit` begins a
population of separate candidates with them.
"""
