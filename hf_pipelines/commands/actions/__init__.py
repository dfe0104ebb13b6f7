"""Actions: the commands of `hfp`, one function each, by the heading of the help that they stand below.

Lives here: arguments with their words, and a few calls. Does not live here: the work itself (the modules that they import; each imports
what it needs when it is called, so that a bare command starts at once), the frame (`app`).
"""
