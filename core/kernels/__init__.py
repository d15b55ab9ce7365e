"""What is only faster, never different: one file for each operation marked `with_kernel`, named after it.

A kernel is chosen by the device and by what the processor can do, neither by its vendor nor by a clock, so that a run
that is resumed on a machine goes on with the same arithmetic. Gains, measured: docs/lab-notes.md.
"""
