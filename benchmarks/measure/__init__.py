"""How anything is measured: timing, alternating processes, records."""
