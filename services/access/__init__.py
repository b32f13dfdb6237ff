"""Access control: bearer tokens, the audit of changes, and the secrets of a run."""
