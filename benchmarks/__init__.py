"""Side by side with peers and with the limit: each script runs one comparison, prints a table, writes JSON."""
