"""The tests; `make test` runs those that need nothing but what `make setup` installed."""
