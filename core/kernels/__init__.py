"""What is only faster, never different."""
