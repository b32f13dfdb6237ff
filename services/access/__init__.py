"""Who may do what: tokens, the audit of changes, and the secrets of a run."""
