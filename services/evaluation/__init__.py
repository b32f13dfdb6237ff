"""`scope eval`: a model on held-out problems, outside of a run.

plan (what is sampled) → workers, one engine in each process → part files, a line a problem → summary and table.
"""
