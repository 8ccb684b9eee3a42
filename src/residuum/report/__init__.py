"""Reading records and showing them to people. Needs no torch."""
