"""What is left of a run: evaluations, the report, the exported model."""
