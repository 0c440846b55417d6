"""The directory of a run: what is to be done, what was done (journals), and an index of it (the ledger)."""
