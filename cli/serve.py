"""`tidemark worker`, `tidemark api`, `tidemark migrate`: what a deployment runs, told everything by its environment."""


def worker() -> None:
    """Learn from the stream until stopped: Kafka in, Redis and PostgreSQL out."""
    import gc

    # What imports make stays, and looking through it for garbage takes a tenth of the start; `stream.tuning` ends this.
    gc.disable()

    import settings

    # Read before Faust is loaded: a misspelt setting is answered at once.
    configured = settings.load()

    from stream import app

    app.run(configured)


def api() -> None:
    """Serve the REST API until stopped."""
    import settings

    configured = settings.load()

    from api import app

    app.serve(configured)


def migrate() -> None:
    """Bring PostgreSQL's tables to the newest schema, as the worker and the API do when they start."""
    import settings

    configured = settings.load()

    from state.migrate import migrate as bring_up

    bring_up(configured.postgres())
    print("The tables have the newest schema.")
