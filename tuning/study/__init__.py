"""What a study is: its settings, space and plan, and the ledger of its trials."""
