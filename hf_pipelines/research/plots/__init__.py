"""Plots: what the web UI and reports draw.

Lives here: the house style (`style`), the tables that are drawn (`frames`), and figures of accounts, predictions, weights, bars,
features and importances, each a table in and PNG bytes out. Not here: figures of one field's own results, which lie beside them
(`score_plots`, `overfitting.plots`, `intervals.plots`, `tuning.plots`, `explanations.plots`) and share the style; how a figure is
embedded or stored.
"""
