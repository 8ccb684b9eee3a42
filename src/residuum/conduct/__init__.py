"""Many runs: planned, with their cost, and computed by launchers."""
