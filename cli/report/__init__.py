"""The report of `tidemark backtest --report`: one HTML file that needs nothing else to be read."""
