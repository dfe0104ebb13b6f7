"""Promotions: the create-only history of what was promoted, refused, rolled back and withdrawn.

Lives here: the records in the store (`history`). Does not live here: what follows from them (`research.promotion.lifecycle`).
"""
