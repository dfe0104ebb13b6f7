"""Literature: what each entry follows, a paper, a book, a library or this project's own definition.

Lives here: a line an entry, for `hfp list` and the reference; `source_of`. Does not live here: the entries. Their modules cite too, where it
is said how the code differs. Not a part of the entries: another word in one would make everything that it computes out of date.
"""

from collections.abc import Iterator

from hf_pipelines.research.features import FEATURES

OWN = "this project's definition"

_AFML = 'López de Prado (2018), "Advances in Financial Machine Learning"'
_GROWTH = 'Lakonishok, Shleifer & Vishny (1994), "Contrarian Investment, Extrapolation, and Risk", J. Finance 49(5)'
_DUPONT = 'Soliman (2008), "The Use of DuPont Analysis by Market Participants", The Accounting Review 83(3)'
_TONE = 'Loughran & McDonald (2011), "When Is a Liability Not a Liability?", J. Finance 66(1)'
_ATTENTION = 'Barber & Odean (2008), "All That Glitters", Review of Financial Studies 21(2)'
_TRADES = 'Lakonishok & Lee (2001), "Are Insider Trades Informative?", Review of Financial Studies 14(1)'
_RANKED = 'Gu, Kelly & Xiu (2020), "Empirical Asset Pricing via Machine Learning", Review of Financial Studies 33(5): values ranked each period'
_INDUSTRIES = 'Moskowitz & Grinblatt (1999), "Do Industries Explain Momentum?", J. Finance 54(4)'
_BETA = 'Sharpe (1963), "A Simplified Model for Portfolio Analysis", Management Science 9(2)'
_STRENGTH = f'{OWN}, after Levy (1967), "Relative Strength as a Criterion for Investment Selection", J. Finance 22(4)'
_CALENDAR = f"{OWN}: a place in the calendar"
_ANGLE = f"{OWN}: a place in the calendar as an angle, so that the last one is next to the first"
_AGAINST_SECTOR = f"{OWN}: a ratio against those of the sector"
_SECTOR_CODE = f"{OWN}: the sector as a number"

# Of features without a `source` of their own.
_FEATURES = {
    "benchmark_correlation_60": "Pearson's correlation, of returns",
    "benchmark_beta_60": _BETA,
    "relative_strength_60": _STRENGTH,
    "sector_correlation_60": "Pearson's correlation, of returns",
    "sector_beta_60": _BETA,
    "sector_relative_strength_60": _STRENGTH,
    **dict.fromkeys(("sector_relative_return_1", "sector_relative_return_5", "sector_relative_return_20"), _INDUSTRIES),
    **dict.fromkeys(
        (
            "rank_return_1",
            "rank_return_5",
            "rank_return_20",
            "rank_return_60",
            "rank_volatility_20",
            "rank_volume_ratio_20",
            "rank_sma_gap_20",
        ),
        _RANKED,
    ),
    **dict.fromkeys(
        (
            "zscore_return_1",
            "zscore_return_5",
            "zscore_return_20",
            "zscore_return_60",
            "zscore_volatility_20",
            "zscore_volume_ratio_20",
            "zscore_sma_gap_20",
        ),
        f"{OWN}: a value in standard deviations among the members",
    ),
    **dict.fromkeys(
        ("breadth_advancing", "breadth_sma_20", "breadth_sma_50"),
        f"{OWN}: a share of the members, as the advance-decline line counts them",
    ),
    **dict.fromkeys(
        ("dispersion_return_1", "dispersion_return_20"),
        'Christie & Huang (1995), "Following the Pied Piper", Financial Analysts Journal 51(4)',
    ),
    "day_of_week": 'French (1980), "Stock Returns and the Weekend Effect", J. Financial Economics 8(1)',
    "month": 'Rozeff & Kinney (1976), "Capital Market Seasonality", J. Financial Economics 3(4)',
    **dict.fromkeys(
        ("is_quarter_end", "is_quarter_start"),
        'Carhart, Kaniel, Musto & Reed (2002), "Leaning for the Tape", J. Finance 57(2)',
    ),
    "quarter": _CALENDAR,
    "day_of_year": _CALENDAR,
    "day_of_month": _CALENDAR,
    "week_of_month": _CALENDAR,
    **dict.fromkeys(("day_of_week_sin", "day_of_week_cos"), _ANGLE),
    **dict.fromkeys(("day_of_month_sin", "day_of_month_cos"), _ANGLE),
    **dict.fromkeys(("month_sin", "month_cos"), _ANGLE),
    **dict.fromkeys(("day_of_year_sin", "day_of_year_cos"), _ANGLE),
    "earnings_yield": 'Basu (1977), "Investment Performance of Common Stocks", J. Finance 32(3): its ratio upside down',
    "book_to_price": 'Fama & French (1992), "The Cross-Section of Expected Stock Returns", J. Finance 47(2)',
    "price_to_sales": 'Barbee, Mukherji & Raines (1996), "Do Sales-Price and Debt-Equity Explain Stock Returns Better than Book-Market '
    'and Firm Size?", Financial Analysts Journal 52(2): its ratio upside down',
    **dict.fromkeys(
        (
            "sector_relative_price_to_earnings",
            "sector_relative_price_to_book",
            "sector_relative_price_to_sales",
            "sector_relative_ev_to_ebitda",
        ),
        _AGAINST_SECTOR,
    ),
    "dividend_yield": 'Litzenberger & Ramaswamy (1979), "The Effect of Personal Taxes and Dividends on Capital Asset Prices", '
    "J. Financial Economics 7(2)",
    "return_on_equity": 'Hou, Xue & Zhang (2015), "Digesting Anomalies", Review of Financial Studies 28(3)',
    "gross_margin": _DUPONT,
    "operating_margin": _DUPONT,
    "net_margin": _DUPONT,
    "asset_turnover": _DUPONT,
    "current_ratio": 'Ou & Penman (1989), "Financial Statement Analysis and the Prediction of Stock Returns", J. Accounting and '
    "Economics 11(4)",
    "debt_to_equity": 'Bhandari (1988), "Debt/Equity Ratio and Expected Common Stock Returns", J. Finance 43(2)',
    "liabilities_to_equity": f"{OWN}: as debt_to_equity, of all liabilities",
    "revenue_growth": _GROWTH,
    "earnings_growth": _GROWTH,
    "days_since_filing": f"{OWN}: how old the known filing is",
    **dict.fromkeys((f"sector_is_{code:02d}" for code in range(11)), _SECTOR_CODE),
    "sector_number": _SECTOR_CODE,
    **dict.fromkeys(("insider_net_shares_90", "insider_net_value_90"), _TRADES),
    **dict.fromkeys(("short_interest_change_1", "short_interest_change_3"), f"{OWN}: the change between reports"),
    "sentiment_negative": _TONE,
    "sentiment_neutral": _TONE,
    "sentiment_uncertainty": _TONE,
    "article_volume": _ATTENTION,
    "article_volume_ratio_20": _ATTENTION,
    "sentiment_momentum_5": f"{OWN}: a change of the tone",
    "sentiment_divergence_20": f"{OWN}: the tone of the session against the usual one",
}

_STACKED = 'Wolpert (1992), "Stacked Generalization", Neural Networks 5; Breiman (1996), "Stacked Regressions", Machine Learning 24'
_FORECASTER = (
    'Cesa-Bianchi & Lugosi (2006), "Prediction, Learning, and Games", ch. 2 (exponentially weighted average forecaster)'
)
_XGBOOST = 'Chen & Guestrin (2016), "XGBoost: A Scalable Tree Boosting System", KDD'
_PLACEBO = f"{OWN}: what takes no learning"
_WINDOWS = 'Tashman (2000), "Out-of-Sample Tests of Forecasting Accuracy", International J. Forecasting 16(4)'
_HOUSE = f"{OWN}: a limit as desks have it"
_OF_STRATEGY = f"{OWN}: it joins other rules"
_INTEREST = f"{OWN}: a rate for each calendar day, as brokers charge it"

_ENTRIES: dict[str, dict[str, str]] = {
    "TARGETS": {
        "forward_return": f"{OWN}: the total return, splits and dividends counted",
        "direction": f"{OWN}: the sign of the return with a neutral zone",
        "first_touch": f"{_AFML}, ch. 3.4: the triple barrier, met by closes",
        "open_return": f"{OWN}: the return between the fills of an order at the next open",
        "up_or_down": f"{OWN}: whether the return is above a threshold",
        "volatility_direction": f"{_AFML}, ch. 3.3: thresholds that follow the volatility",
        "triple_barrier": f"{_AFML}, ch. 3.4; there barriers are met by closes, here by the high and the low",
        "meta_label": f"{_AFML}, ch. 3.6",
        "realised_volatility": 'Andersen, Bollerslev, Diebold & Labys (2003), "Modeling and Forecasting Realized Volatility", Econometrica '
        "71(2); there a sum of squares, here the root of their mean",
        "rank": 'Hazen (1914), "Storage to Be Provided in Impounding Reservoirs", Transactions ASCE 77: (rank - 0.5) / n',
        "excess_return": f"{OWN}: the return less that of a benchmark",
        "forward_returns": f"{OWN}: as forward_return, of several horizons",
    },
    "WEIGHTINGS": {
        "class_balance": "scikit-learn's class_weight=\"balanced\", after King & Zeng (2001), \"Logistic Regression in Rare Events Data\", "
        "Political Analysis 9(2)",
        "uniqueness": f"{_AFML}, ch. 4.3 and 4.4",
        "time_decay": f"{_AFML}, ch. 4.7; there linear in uniqueness, here by a half-life in sessions",
        "return_magnitude": f"{_AFML}, ch. 4.6; uniqueness is a weighting of its own here",
    },
    "SPLITTERS": {
        "purged_walk_forward": f"{_AFML}, ch. 7; the embargo lies before the test block",
        "purged_kfold": f"{_AFML}, ch. 7",
        "combinatorial_purged": f"{_AFML}, ch. 12",
        "walk_forward": 'Pardo (1992), "Design, Testing, and Optimization of Trading Systems": walk-forward analysis',
        "expanding_window": f"{_WINDOWS}: a window that grows",
        "rolling_window": f"{_WINDOWS}: a window of a fixed length",
        "time_series_windows": 'Hyndman & Athanasopoulos (2021), "Forecasting: Principles and Practice", 3rd ed., ch. 5.10',
        "monte_carlo": 'Cerqueira, Torgo & Mozetič (2020), "Evaluating time series forecasting models", Machine Learning 109: repeated holdout',
    },
    "PREPROCESSING": {
        "standard_scaling": "scikit-learn's StandardScaler",
        "min_max_scaling": "scikit-learn's MinMaxScaler",
        "robust_scaling": "scikit-learn's RobustScaler",
        "quantile_scaling": f"{OWN}, as scikit-learn's QuantileTransformer over all rows",
        "winsorising": 'Tukey (1962), "The Future of Data Analysis", Annals of Mathematical Statistics 33(1)',
        "imputation": f"{OWN}, as scikit-learn's SimpleImputer with `add_indicator`",
        "cross_sectional_rank": _RANKED,
        "cross_sectional_score": f"{OWN}: a value in standard deviations among the members of its time",
        "k_best": "scikit-learn's f_classif and f_regression",
        "mutual_information": 'Kraskov, Stögbauer & Grassberger (2004), "Estimating mutual information", Physical Review E 69; Ross (2014), '
        '"Mutual Information between Discrete and Continuous Data Sets", PLoS ONE 9(2)',
        "recursive_elimination": 'Guyon, Weston, Barnhill & Vapnik (2002), "Gene Selection for Cancer Classification using Support Vector '
        'Machines", Machine Learning 46',
        "lasso_selection": 'Tibshirani (1996), "Regression Shrinkage and Selection via the Lasso", J. Royal Statistical Society B 58(1)',
        "decorrelation": f"{OWN}, after Kuhn & Johnson (2013), \"Applied Predictive Modeling\", ch. 3.5; of a pair the first stays here",
        "pca": 'Jolliffe (2002), "Principal Component Analysis", 2nd ed.',
    },
    "LEARNERS": {
        "xgboost": _XGBOOST,
        "xgboost_early_stopping": _XGBOOST,
        "lightgbm": 'Ke et al. (2017), "LightGBM: A Highly Efficient Gradient Boosting Decision Tree", NeurIPS',
        "catboost": 'Prokhorenkova et al. (2018), "CatBoost: unbiased boosting with categorical features", NeurIPS',
        "hist_gradient_boosting": 'scikit-learn\'s HistGradientBoosting; Friedman (2001), "Greedy Function Approximation: A Gradient '
        'Boosting Machine", Annals of Statistics 29(5)',
        "random_forest": 'scikit-learn; Breiman (2001), "Random Forests", Machine Learning 45',
        "extra_trees": 'scikit-learn; Geurts, Ernst & Wehenkel (2006), "Extremely randomized trees", Machine Learning 63',
        "ridge": 'scikit-learn; Hoerl & Kennard (1970), "Ridge Regression", Technometrics 12(1)',
        "lasso": 'scikit-learn; Tibshirani (1996), "Regression Shrinkage and Selection via the Lasso", J. Royal Statistical Society B 58(1)',
        "elastic_net": 'scikit-learn; Zou & Hastie (2005), "Regularization and Variable Selection via the Elastic Net", J. Royal Statistical '
        "Society B 67(2)",
        "huber": 'scikit-learn; Huber (1964), "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1)',
        "quantile": 'Koenker & Bassett (1978), "Regression Quantiles", Econometrica 46(1); solved as Portnoy & Koenker (1997), "The Gaussian '
        'Hare and the Laplacian Tortoise", Statistical Science 12(4)',
        "logistic": 'scikit-learn; Cox (1958), "The Regression Analysis of Binary Sequences", J. Royal Statistical Society B 20(2)',
        "nearest_neighbours": 'scikit-learn; Cover & Hart (1967), "Nearest Neighbor Pattern Classification", IEEE Transactions on Information '
        "Theory 13(1)",
        "lstm": 'Hochreiter & Schmidhuber (1997), "Long Short-Term Memory", Neural Computation 9(8)',
        "gru": 'Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder", EMNLP',
        "transformer": 'Vaswani et al. (2017), "Attention Is All You Need", NeurIPS; normalised before each part as Xiong et al. (2020), "On '
        'Layer Normalization in the Transformer Architecture", ICML',
        "tcn": 'Bai, Kolter & Koltun (2018), "An Empirical Evaluation of Generic Convolutional and Recurrent Networks", arXiv:1803.01271',
        "mlp": 'Rumelhart, Hinton & Williams (1986), "Learning Representations by Back-Propagating Errors", Nature 323',
        "majority": _PLACEBO,
        "mean": _PLACEBO,
        "last_value": _PLACEBO,
        "momentum_sign": _PLACEBO,
        "random": _PLACEBO,
        "arima": 'statsmodels\' SARIMAX; Box & Jenkins (1976), "Time Series Analysis: Forecasting and Control"',
        "kalman": "statsmodels' UnobservedComponents; Harvey (1989), \"Forecasting, Structural Time Series Models and the Kalman Filter\"",
        "garch": 'arch; Bollerslev (1986), "Generalized Autoregressive Conditional Heteroskedasticity", J. Econometrics 31',
        "gjr_garch": 'arch; Glosten, Jagannathan & Runkle (1993), "On the Relation between the Expected Value and the Volatility of the Nominal '
        'Excess Return on Stocks", J. Finance 48(5)',
        "egarch": 'arch; Nelson (1991), "Conditional Heteroskedasticity in Asset Returns: A New Approach", Econometrica 59(2)',
        "voting": 'Bates & Granger (1969), "The Combination of Forecasts", Operational Research Quarterly 20(4); weights are given here',
        "stacking": _STACKED,
        "blending": f"{_STACKED}; of one later block instead of folds",
        "dynamic_weighting": f"{_FORECASTER}, 2.11 (discounted losses)",
        "regime_experts": f"{_FORECASTER}, a forecaster for each regime of volatility",
        "discrete_super_learner": 'van der Laan, Polley & Hubbard (2007), "Super Learner", Statistical Applications in Genetics and Molecular '
        "Biology 6(1)",
    },
    "CALIBRATIONS": {
        "temperature": 'Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML',
        "sigmoid": 'Platt (1999), "Probabilistic Outputs for Support Vector Machines", Advances in Large Margin Classifiers',
        "isotonic": 'Zadrozny & Elkan (2002), "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", KDD',
    },
    "INTERVALS": {
        "split": 'Vovk, Gammerman & Shafer (2005), "Algorithmic Learning in a Random World"',
        "quantile": 'Romano, Patterson & Candès (2019), "Conformalized Quantile Regression", NeurIPS',
        "adaptive": 'Gibbs & Candès (2021), "Adaptive Conformal Inference Under Distribution Shift", NeurIPS',
        "lac": 'Sadinle, Lei & Wasserman (2019), "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", J. American Statistical '
        "Association 114(525)",
        "aps": 'Romano, Sesia & Candès (2020), "Classification with Valid and Adaptive Coverage", NeurIPS; nothing is drawn here',
    },
    "RULES": {
        "probability_threshold": f"{OWN}: who is likely enough to rise or to fall",
        "meta_label": f"{_AFML}, ch. 3.6",
        "inverse_volatility": 'Roncalli (2013), "Introduction to Risk Parity and Budgeting", ch. 2, the case of equal correlations',
        "threshold": f"{OWN}: two levels with hysteresis",
        "long_short": f'{OWN}; the scaling by volatility as Moskowitz, Ooi & Pedersen (2012), "Time Series Momentum", J. Financial Economics '
        "104(2), never above 1 here",
        "portfolio": f"{OWN}: shares by softmax, by rank or equal",
        "optimised_portfolio": 'skfolio; Markowitz (1952), "Portfolio Selection", J. Finance 7(1); Maillard, Roncalli & Teiletche (2010), "The '
        'Properties of Equally Weighted Risk Contribution Portfolios", J. Portfolio Management 36(4); López de Prado (2016), "Building '
        'Diversified Portfolios that Outperform Out of Sample", J. Portfolio Management 42(4)',
        "rank_long_short": 'Jegadeesh & Titman (1993), "Returns to Buying Winners and Selling Losers", J. Finance 48(1): both ends of a ranking',
        "rank_buffer": 'Novy-Marx & Velikov (2016), "A Taxonomy of Anomalies and Their Trading Costs", Review of Financial Studies 29(1): the '
        "spread between buying and holding",
        "rule_tree": 'Rivest (1987), "Learning Decision Lists", Machine Learning 2(3): the first match decides; written by hand here',
        "mix": _OF_STRATEGY,
        "chain": _OF_STRATEGY,
    },
    "SIZINGS": {
        "fixed_fraction": f"{OWN}: the same fraction for each position",
        "volatility_target": 'Harvey et al. (2018), "The Impact of Volatility Targeting", J. Portfolio Management 45(1)',
        "kelly": 'Kelly (1956), "A New Interpretation of Information Rate", Bell System Technical Journal 35(4); Thorp (2006), "The Kelly '
        'Criterion in Blackjack, Sports Betting and the Stock Market", Handbook of Asset and Liability Management 1',
    },
    "LIMITS": {
        "borrow": "SEC Regulation SHO, rule 203: what is sold short can be borrowed",
        "long_only": _HOUSE,
        "symbol_cap": _HOUSE,
        "sector_cap": _HOUSE,
        "net_cap": _HOUSE,
        "gross_cap": _HOUSE,
        "turnover_cap": _HOUSE,
        "holding": _HOUSE,
        "band": f'{OWN}, after Davis & Norman (1990), "Portfolio Selection with Transaction Costs", Mathematics of Operations Research 15(4): a '
        "zone without trades",
        "day_trades": "FINRA rule 4210(f)(8)(B): pattern day traders",
    },
    "ENGINES": {
        "reference": f"{OWN}: an exact account, see the guide on engines",
        "vectorbt": "vectorbt's Portfolio.from_orders",
        "backtrader": "backtrader's Cerebro",
    },
    "COST_KINDS": {
        "commission": f"{OWN}: a price list of a broker",
        "spread": 'Demsetz (1968), "The Cost of Transacting", Quarterly J. Economics 82(1): half of it is paid on each side',
        "impact": 'Grinold & Kahn (2000), "Active Portfolio Management", 2nd ed., ch. 16: the root of the share of the volume',
        "sales_tax": f"{OWN}: a rate on what is sold",
        "cash_interest": _INTEREST,
        "margin_interest": _INTEREST,
    },
    "SAMPLERS": {
        "grid": f"{OWN}: every point",
        "random": 'optuna; Bergstra & Bengio (2012), "Random Search for Hyper-Parameter Optimization", J. Machine Learning Research 13',
        "qmc": 'optuna; Owen (1998), "Scrambling Sobol\' and Niederreiter-Xing Points", J. Complexity 14(4)',
        "tpe": 'optuna; Bergstra, Bardenet, Bengio & Kégl (2011), "Algorithms for Hyper-Parameter Optimization", NeurIPS; several parameters '
        'together as Falkner, Klein & Hutter (2018), "BOHB", ICML',
        "gp": 'optuna; Snoek, Larochelle & Adams (2012), "Practical Bayesian Optimization of Machine Learning Algorithms", NeurIPS',
        "cmaes": 'optuna; Hansen & Ostermeier (2001), "Completely Derandomized Self-Adaptation in Evolution Strategies", Evolutionary '
        "Computation 9(2)",
        "nsga2": 'optuna; Deb, Pratap, Agarwal & Meyarivan (2002), "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", IEEE '
        "Transactions on Evolutionary Computation 6(2)",
    },
    "GATES": {
        **dict.fromkeys(
            ("rows", "beats_baselines", "beats_portfolios", "max_drawdown", "turnover", "engines_agree", "replayed", "stable_folds",
             "stable_paths", "age_weeks", "up_to_date", "holdout_looks", "members", "beats_champion"),
            f"{OWN}: a threshold of the fund's own",
        ),
        "sharpe": 'Sharpe (1994), "The Sharpe Ratio", J. Portfolio Management 21(1)',
        "sharpe_low": 'Lo (2002), "The Statistics of Sharpe Ratios", Financial Analysts Journal 58(4)',
        "deflated_sharpe": 'Bailey & López de Prado (2014), "The Deflated Sharpe Ratio", J. Portfolio Management 40(5)',
        "overfitting": 'Bailey, Borwein, López de Prado & Zhu (2017), "The Probability of Backtest Overfitting", J. Computational Finance 20(4)',
        "capacity": 'Almgren, Thum, Hauptmann & Li (2005), "Direct Estimation of Equity Market Impact", Risk 18(7)',
        "controls": f'{OWN}, after Ojala & Garriga (2010), "Permutation Tests for Studying Classifier Performance", J. Machine Learning Research 11',
        "calibration": 'Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML: the expected calibration error',
    },
}  # fmt: skip


def source_of(table: str, name: str) -> str:
    """What an entry follows.

    Parameters
    ----------
    table : str
        "FEATURES", or the name of a registry, such as "LEARNERS".
    name : str
        The entry.

    Returns
    -------
    str
        Empty of an entry of one's own that does not say it, and of market data.
    """
    if table != "FEATURES":
        return _ENTRIES.get(table, {}).get(name, "")
    own = FEATURES[name].source if name in FEATURES else ""
    return own or _FEATURES.get(name, "")


def places() -> Iterator[tuple[str, str]]:
    """Table and name of everything that has a line here."""
    yield from (("FEATURES", name) for name in _FEATURES)
    yield from ((table, name) for table, entries in _ENTRIES.items() for name in entries)
