"""What serving many adapters costs, measured from a second process on loopback."""
