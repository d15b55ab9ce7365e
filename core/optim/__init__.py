"""How parameters move: Muon, AdamW's groups, schedules, averages of weights."""
