"""What is known, kept: Redis for the state, PostgreSQL for the history."""
