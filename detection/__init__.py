"""The pure core: no IO, no clock, no log, no async."""
