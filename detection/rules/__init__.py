"""Rules say what is reason to tell somebody; alerts are what becomes of it. One life cycle for billers and models."""
