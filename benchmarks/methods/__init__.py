"""One file per method that is measured; a worker imports only the one that it runs."""
