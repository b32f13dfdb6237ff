"""The results of a run: evaluations, the report, the exported model with its card."""
