"""The assets of a market, one module each, in flow order.

Lives here: which inputs each asset reads, the research functions it calls, its checks and what it shows. Does not live
here: maths (`research`), the YAML (`market`), storage and sources (`resources`).
"""
