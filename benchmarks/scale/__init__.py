"""Memory and time of large models and many tenants, worked out: the tables of `docs/scale.md`."""
