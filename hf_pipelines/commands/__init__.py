"""Commands: what `hfp` does.

Lives here: the words of the command line, the demo, the sample's replay into a landing folder, runs in this process, and
what commands print. Does not live here: what they print about (`components`, `resources`). Nothing is imported here, so that
`hfp --help` answers at once.
"""
