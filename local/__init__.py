"""The embedded stack: real servers from wheels, started and stopped by one command."""
