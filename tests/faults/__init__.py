"""Seeded faults against real workers: whatever happens, the end is that of a quiet run."""
