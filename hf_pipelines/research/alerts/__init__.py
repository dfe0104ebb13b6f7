"""Alerts: what a person is told, where, and when: routes, quiet hours, and a desk that remembers what was told.

Lives here: decisions, pure functions of what is open, of what was told and of the time. Does not live here: noticing
(`components.operations`), the environment (`resources.alert_settings`), sending (`resources.alert_channels`).
"""
