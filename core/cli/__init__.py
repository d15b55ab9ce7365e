"""Command lines: arguments, exit codes, signals."""
