"""`tidemark worker` and `tidemark api`: the two processes of a deployment, told everything by their environment."""


def worker() -> None:
    """Learn from the stream until stopped: Kafka in, Redis and PostgreSQL out."""
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
