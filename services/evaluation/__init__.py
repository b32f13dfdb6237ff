"""`scope eval`: evaluates a model on held-out problems, outside of a run.

plan → workers, one engine in each process → part files, a line for each problem → summary and table
"""
