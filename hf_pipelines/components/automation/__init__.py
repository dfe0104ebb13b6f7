"""Automation: what requests runs, so that no person has to.

Lives here: schedules and sensors, and the jobs that they request. Does not live here: the assets, and what makes one
current (`resources.currency`).
"""
