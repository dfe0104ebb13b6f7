"""A project of one's own with types everywhere: what `mypy --strict` sees of the public API. See `test_public_api`."""
