"""Public API: the names that a program or a project of one's own may import.

Lives here: the list, a page of the reference each. Does not live here: the names themselves. What is not listed may change with any
version.
"""

# What a program may import: pages of the API, each with its modules and their public names. Everything else may change.
API: dict[str, dict[str, tuple[str, ...]]] = {
    "project": {
        "hf_pipelines.definitions": ("build_defs",),
        "hf_pipelines.resources.feature_reader": ("load_features",),
        "hf_pipelines.resources.trial_ledger": ("record_trial", "n_trials", "verify_chains", "configuration_hash"),
    },
    "bars": {
        "hf_pipelines.research.bars": ("validate_bars", "check_structure", "sound_bars", "missing_bars", "stale_bars"),
        "hf_pipelines.research.adjustment": ("adjust", "price_factor", "derive_events"),
    },
    "features": {
        "hf_pipelines.research.features": (
            "Feature",
            "Panel",
            "build_panel",
            "compute_features",
            "feature_frame",
            "group_names",
            "paired",
            "register",
            "window_kernel",
            "windowed",
        )
    },
    "targets": {
        "hf_pipelines.research.targets": (
            "TargetKind",
            "TargetNeeds",
            "Target",
            "build_target",
            "build_labels",
            "forward_return",
            "neutral_value",
        )
    },
    "matrix": {
        "hf_pipelines.research.matrix": (
            "build_matrix",
            "label_features",
            "select_rows",
            "usable_rows",
            "feature_names",
        ),
        "hf_pipelines.research.weights": ("Weighting", "choose_weightings", "sample_weights"),
    },
    "splitters": {
        "hf_pipelines.research.splitters": (
            "SplitterKind",
            "Splitter",
            "PathSplitter",
            "build_splitter",
            "PurgedWalkForward",
            "PurgedKFold",
            "CombinatorialPurged",
            "WalkForward",
            "ExpandingWindow",
            "RollingWindow",
            "TimeSeriesWindows",
            "MonteCarlo",
        )
    },
    "learners": {
        "hf_pipelines.research.learners": (
            "Learner",
            "ModelFormat",
            "Setup",
            "Rows",
            "TrainingRows",
            "Step",
            "Calibration",
            "choose_learner",
            "build_pipeline",
            "feature_array",
            "predict_frame",
        ),
        "hf_pipelines.research.params": (
            "Number",
            "Choice",
            "Flag",
            "Text",
            "Nested",
            "Listing",
            "complete_params",
            "searched_params",
            "describe_params",
            "param_schema",
        ),
    },
    "cross-validation": {
        "hf_pipelines.research.cross_validation": ("CrossValidation", "cross_validate", "fit_final"),
    },
    "signals": {
        "hf_pipelines.research.signals": (
            "Rule",
            "RuleContext",
            "RuleNeeds",
            "Sizing",
            "Limit",
            "apply_rule",
            "rule_needs",
            "add_absent_members",
            "Reason",
            "upgrade_issue",
        ),
    },
    "backtest": {
        "hf_pipelines.research.costs": ("Costs",),
        "hf_pipelines.research.backtest": (
            "Engine",
            "RunBacktest",
            "Execution",
            "BacktestResult",
            "Account",
            "Fills",
            "TradingPanel",
            "run_backtest",
            "simulate",
            "build_trading_panel",
            "build_result",
            "asked_of_engine",
            "require_capable",
        ),
        "hf_pipelines.research.account_summary": ("summarise_account", "benchmark_index", "values_of"),
    },
    "metrics": {
        "hf_pipelines.research.metrics": (
            "annual_return",
            "annual_volatility",
            "classification_metrics",
            "coefficient_summary",
            "confusion_matrix",
            "drawdown",
            "hit_rate",
            "information_coefficient",
            "log_loss",
            "max_drawdown",
            "mean_information_coefficient",
            "profit_factor",
            "quantile_loss",
            "regression_metrics",
            "returns_of",
            "sharpe_ratio",
            "total_return",
            "turnover",
        )
    },
    "overfitting": {
        "hf_pipelines.research.overfitting": (
            "SharpeEstimate",
            "estimate_sharpe",
            "probabilistic_sharpe_ratio",
            "expected_maximum_sharpe",
            "deflated_sharpe_ratio",
            "minimum_track_record_length",
            "count_independent_trials",
            "variance_of_trials",
            "deflate",
            "Deflation",
            "Diagnostics",
            "Overfitting",
            "diagnose",
        )
    },
    "significance": {
        "hf_pipelines.research.significance": (
            "diebold_mariano",
            "DieboldMariano",
            "adjust_holm",
            "superior_ability",
            "SuperiorAbility",
            "reality_check",
            "model_confidence_set",
            "ConfidenceSet",
            "draw_rotations",
            "Rotations",
        )
    },
    "drift": {
        "hf_pipelines.research.drift": (
            "reference_bins",
            "Bins",
            "session_histograms",
            "SessionHistograms",
            "distances",
            "Distances",
            "judge_drift",
            "Drift",
            "changed_since",
            "decayed",
            "Decay",
            "threshold_for",
            "matured_accuracy",
            "Matured",
        )
    },
    "explanations": {
        "hf_pipelines.research.explanations": (
            "permutation_contributions",
            "Contributions",
            "fit_local_line",
            "LocalLine",
            "nearest_turns",
            "Turn",
            "percentile_of",
        )
    },
    "sources": {
        "hf_pipelines.resources.market_data.source_entry": ("SourceEntry", "SourceSpec", "FolderSpec", "SourceMarket"),
        "hf_pipelines.resources.market_data": ("MarketDataSource", "SourceFile", "by_week"),
        "hf_pipelines.research.content_hash": ("content_hash",),
    },
}
