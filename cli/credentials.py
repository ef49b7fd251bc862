"""The key that commands ask an API with, where it asks who asks: the setting `TIDEMARK_API_KEY`."""


def headers() -> dict[str, str]:
    """What every request to the API is sent with; empty without a key."""
    from settings import load

    key = load().api_key.get_secret_value()
    return {"Authorization": f"Bearer {key}"} if key else {}
