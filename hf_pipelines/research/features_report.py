"""What a researcher looks at before trusting features: which symbols have values, and which features say the same.

Here: coverage by symbol and session, correlations of features, and the order in which they are read best. Not here:
the features (`features`), how this is drawn (`plots`).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from hf_pipelines.research.bars import KEY_COLUMNS

# A correlation of fewer common rows says nothing: of 20 independent ones a twentieth lies beyond 0.44.
MIN_COMMON_ROWS = 20

# Rows whose products are added up at a time: 250 features of them are 100 MB.
ROWS_AT_A_TIME = 50_000

# Variance that is rounding error only, as a share of the mean square.
NO_VARIANCE = 1e-9


def feature_coverage(features: pl.DataFrame, expected: pl.DataFrame) -> pl.DataFrame:
    """Share of features that have a value, of each symbol on each session.

    Parameters
    ----------
    features : DataFrame
        `symbol`, `session`, `ts` and one column a feature, as `join_features` gives them; NaN is no value.
    expected : DataFrame
        `symbol` and `session` that should have values: members while they are members.

    Returns
    -------
    DataFrame
        `symbol`, `session` and `coverage` in [0, 1], sorted; one row for each expected pair, 0 for one without bars. Of
        a session with several bars the mean over them.
    """
    names = [name for name in features.columns if name not in KEY_COLUMNS]
    of_bar = pl.mean_horizontal(pl.col(names).is_not_nan().cast(pl.Float64))
    of_session = features.select("symbol", "session", coverage=of_bar).group_by("symbol", "session").mean()
    joined = expected.select("symbol", "session").join(of_session, on=["symbol", "session"], how="left")
    return joined.with_columns(pl.col("coverage").fill_null(0.0)).sort("symbol", "session")


def feature_correlations(features: pl.DataFrame) -> pl.DataFrame:
    """Rank correlation of every two features, over the rows where both have a value.

    Ranks, since ratios of prices and volumes have tails that would decide a plain correlation alone. A feature is
    ranked once over all its values, not anew for each partner.

    Parameters
    ----------
    features : DataFrame
        As for `feature_coverage`.

    Returns
    -------
    DataFrame
        Column `feature` and one Float64 column a feature, in the order of `features`. NaN for a pair with fewer than
        20 common rows, and for a feature that does not vary over them.
    """
    names = [name for name in features.columns if name not in KEY_COLUMNS]
    ranks = features.select(pl.col(names).fill_nan(None).rank())
    # Centred and scaled to [-1/2, 1/2], so that the sums below lose no digits.
    ranks = ranks.with_columns((pl.all() - pl.all().mean()) / pl.all().count().clip(1)).cast(pl.Float64)
    n_common, sums, squares, products = np.zeros((4, len(names), len(names)))
    for rows in ranks.iter_slices(ROWS_AT_A_TIME):
        x = rows.fill_null(float("nan")).to_numpy()
        is_known = (~np.isnan(x)).astype(np.float64)
        x = np.nan_to_num(x)
        n_common += is_known.T @ is_known
        sums += x.T @ is_known
        squares += (x * x).T @ is_known
        products += x.T @ x
    spread = n_common * squares - sums * sums
    is_defined = (n_common >= MIN_COMMON_ROWS) & (spread > NO_VARIANCE * n_common * squares)
    is_defined &= is_defined.T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (n_common * products - sums * sums.T) / np.sqrt(spread * spread.T)
    found = np.where(is_defined, np.clip(found, -1.0, 1.0), np.nan)
    return pl.DataFrame({"feature": names, **dict(zip(names, found.T, strict=True))})


def closest_pairs(correlations: pl.DataFrame, n: int) -> pl.DataFrame:
    """The `n` pairs of features that are most correlated, whatever the sign: `feature`, `other`, `correlation`."""
    names, values = correlations["feature"].to_list(), correlations.drop("feature").to_numpy()
    first, second = np.triu_indices(len(names), k=1)
    pairs = pl.DataFrame(
        {
            "feature": [names[i] for i in first],
            "other": [names[i] for i in second],
            "correlation": values[first, second],
        },
        schema={"feature": pl.String, "other": pl.String, "correlation": pl.Float64},
    )
    known = pairs.filter(pl.col("correlation").is_not_nan())
    return known.sort(pl.col("correlation").abs(), descending=True, maintain_order=True).head(n)


def clustered(correlations: pl.DataFrame, n: int) -> pl.DataFrame:
    """The `n` features with the closest partner, alike ones side by side: rows and columns in the same new order.

    Average linkage on 1 - |correlation|, leaves ordered so that neighbours are closest. Features without any known
    correlation come last.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    names = np.array(correlations["feature"].to_list())
    strength = np.abs(np.nan_to_num(correlations.drop("feature").to_numpy()))
    np.fill_diagonal(strength, 0.0)
    closest = strength.max(axis=1, initial=0.0)
    kept = np.sort(np.argsort(-closest, kind="stable")[:n])
    linked, alone = kept[closest[kept] > 0], kept[closest[kept] == 0]
    if len(linked) > 2:
        distance = 1.0 - strength[np.ix_(linked, linked)]
        np.fill_diagonal(distance, 0.0)
        linked = linked[leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))]
    order = names[[*linked, *alone]].tolist()
    rows = pl.DataFrame({"feature": order}).join(correlations, on="feature", how="left", maintain_order="left")
    return rows.select("feature", *order)
