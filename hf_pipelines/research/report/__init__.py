"""Report: one page that shows a strategy in a week, from what is stored of it.

Lives here: stored tables in (`results`), sections (`registry`, one function and one line each) of tables, charts and sentences (`blocks`),
HTML out (`page`), with charts for a browser (`interactive`) and for paper (`pictures`). Not here: what is read and where the page is kept
(`components.strategy_stages.report`), numbers themselves (`metrics`, `robustness`, `overfitting`).
"""
