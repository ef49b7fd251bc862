"""The command `tidemark`: one module a subcommand, each loading what it needs when it runs."""
