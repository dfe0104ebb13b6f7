"""Serving: programs that start our processes. They know settings and resources, never components."""
