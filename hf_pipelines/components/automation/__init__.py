"""Automation: what asks for runs, so that nobody needs to press a button.

Lives here: schedules and sensors, and the jobs that they ask for. Does not live here: the assets, and what makes one
current (`resources.currency`).
"""
