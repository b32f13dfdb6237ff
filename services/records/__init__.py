"""The records of a run: step records and their destinations, sampled rollouts, the ledger of groups."""
