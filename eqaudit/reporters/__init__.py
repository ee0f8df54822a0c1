"""A report, shown: one file for each way. No torch here."""
