"""The only room that touches disk, network or a server."""
