"""Side by side with peers and with the limit: a script per comparison, printing a table and writing JSON."""
