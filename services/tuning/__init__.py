"""`scope tune`: searches for the entropy target, or other numbers of a configuration, that give the best pass@k.

    search space → Ray Tune (Optuna proposes values, ASHA stops poor trials) → trials → ranking, curve and best values

A trial is one set of values, trained with each seed as a unit of `services.compare`: in one process or as a full run.
"""
