"""A study: its settings, space and plan, and the ledger of its trials."""
