"""Preprocessing: steps between the features and a learner, fitted inside the fold and stored with the model.

Lives here: the contract, the steps and their registry `PREPROCESSING`. To add a step: write its build function and one
entry in the table. Not here: in which order they are fitted (`pipeline`), what scikit-learn lacks (`transformers`, `selectors`,
`cross_section`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from hf_pipelines.research.learners.array_bytes import arrays_format
from hf_pipelines.research.learners.learner import Estimator, ModelFormat, Rows, Setup, TrainingRows
from hf_pipelines.research.learners.skops_bytes import skops_format
from hf_pipelines.research.params import Choice, Flag, Number, Param

AnyRows = TypeVar("AnyRows", bound=Rows)


def _as_many(params: Mapping[str, Any], n: int) -> int:
    return n


def _k_at_most(params: Mapping[str, Any], n: int) -> int:
    return min(n, int(params.get("k", n)))


def _with_indicators(params: Mapping[str, Any], n: int) -> int:
    return 2 * n if params["indicator"] else n


def _components_at_most(params: Mapping[str, Any], n: int) -> int:
    return min(n, int(params["most"]))


@dataclass(frozen=True, kw_only=True)
class Step:
    """A transformer of features.

    Attributes
    ----------
    name : str
        Key in `PREPROCESSING`.
    build : callable
        `(every parameter, Setup) -> scikit-learn transformer`, not fitted.
    params : mapping of str to Param
    format : ModelFormat
    is_keyed : bool
        It reads the symbol or the time: it is no scikit-learn transformer then, `fit(rows)` and `transform(rows)` get `TrainingRows` and `Rows`; `transform`
        returns an array. What it makes of a row may depend on rows of the same `ts`, and on nothing later.
    takes_weights : bool
        `fit` takes `sample_weight`.
    keeps_columns : bool
        As many columns come out as go in, under the same names. Otherwise `get_feature_names_out` names them.
    handles_missing, fills_missing : bool
        It takes unknown features (NaN); it leaves none.
    reads_labels : bool
        `fit` looks at the labels.
    most_columns : callable
        `(params, columns that come in) -> columns that go out at most`.
    origins : callable, optional
        `(fitted transformer, columns that came in) -> array of shape (columns that go out, columns that came in)`: to which of these
        what a column adds to a prediction belongs; rows add up to 1. Needed only if it does not keep its columns: without it
        contributions cannot be named by the features.
    report : callable, optional
        `(fitted transformer, names of the columns that came in) -> JSON values` about what became of them; for steps that change
        the columns.
    """

    name: str
    build: Callable[[Mapping[str, Any], Setup], Estimator]
    params: Mapping[str, Param]
    format: ModelFormat
    is_keyed: bool = False
    takes_weights: bool = False
    keeps_columns: bool = True
    handles_missing: bool = False
    fills_missing: bool = False
    reads_labels: bool = False
    most_columns: Callable[[Mapping[str, Any], int], int] = _as_many
    origins: Callable[[Estimator, int], np.ndarray] | None = None
    report: Callable[[Estimator, Sequence[str]], Mapping[str, Any]] | None = None


def fit_step(step: Step, transformer: Estimator, rows: TrainingRows) -> None:
    """Fit a transformer as its entry says."""
    if step.is_keyed:
        transformer.fit(rows)
    elif step.takes_weights:
        transformer.fit(rows.X, rows.y, sample_weight=rows.weight)
    else:
        transformer.fit(rows.X, rows.y)


def apply_step(step: Step, transformer: Estimator, rows: AnyRows) -> AnyRows:
    """The rows as a fitted transformer makes them."""
    X = transformer.transform(rows if step.is_keyed else rows.X)
    names = rows.names
    if not step.keeps_columns:
        names = tuple(map(str, transformer.get_feature_names_out(np.array(rows.names, dtype=object))))
    return rows.with_features(X, names)


def build_standard_scaling(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted scaler to mean 0 and standard deviation 1, of the known values."""
    from sklearn.preprocessing import StandardScaler

    return StandardScaler(**params)


def build_min_max_scaling(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted scaler to the smallest and the largest of the known values."""
    from sklearn.preprocessing import MinMaxScaler

    return MinMaxScaler((params["low"], params["high"]), clip=params["clip"])


def build_robust_scaling(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted scaler to median 0 and a distance of 1 between two quantiles."""
    from sklearn.preprocessing import RobustScaler

    return RobustScaler(quantile_range=(100.0 * params["low"], 100.0 * params["high"]))


def build_quantile_scaling(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted scaler to the shares of the training rows that are smaller."""
    from hf_pipelines.research.learners.transformers import QuantileScaling

    return QuantileScaling(params["n_quantiles"], is_normal=params["distribution"] == "normal")


def build_winsorising(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted winsoriser."""
    from hf_pipelines.research.learners.transformers import Winsorising

    return Winsorising(**params)


def build_imputation(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted filler of unknown values."""
    from hf_pipelines.research.learners.transformers import Imputation

    return Imputation(**params)


def build_cross_sectional_rank(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make a ranking of each feature over the rows of the same time."""
    from hf_pipelines.research.learners.cross_section import CrossSectionalRank

    return CrossSectionalRank()


def build_cross_sectional_score(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make a standardising of each feature over the rows of the same time."""
    from hf_pipelines.research.learners.cross_section import CrossSectionalScore

    return CrossSectionalScore()


def build_k_best(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted selector by the F statistic."""
    from hf_pipelines.research.learners.selectors import KBest

    return KBest(**params, task=setup.task)


def build_mutual_information(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted selector by mutual information."""
    from hf_pipelines.research.learners.selectors import MutualInformation

    return MutualInformation(**params, task=setup.task, random_state=setup.seed)


def build_recursive_elimination(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted selector by the coefficients of linear fits."""
    from hf_pipelines.research.learners.selectors import RecursiveElimination

    return RecursiveElimination(**params, task=setup.task)


def build_lasso_selection(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted selector by a lasso."""
    from hf_pipelines.research.learners.selectors import LassoSelection

    return LassoSelection(**params, task=setup.task)


def build_decorrelation(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make an unfitted selector that drops what an earlier column says already."""
    from hf_pipelines.research.learners.selectors import Decorrelation

    return Decorrelation(**params)


def build_pca(params: Mapping[str, Any], setup: Setup) -> Estimator:
    """Make unfitted principal components."""
    from hf_pipelines.research.learners.transformers import Components

    return Components(**params)


def _kept_and_dropped(selector: Estimator, names: Sequence[str]) -> dict[str, Any]:
    """Names of the columns that stay and of those that go."""
    kept = {int(at) for at in selector.kept_}
    return {
        "kept": [name for at, name in enumerate(names) if at in kept],
        "dropped": [name for at, name in enumerate(names) if at not in kept],
    }


def _filled(imputation: Estimator, names: Sequence[str]) -> dict[str, Any]:
    """Names of the columns that have a second one."""
    return {"indicated": [names[at] for at in imputation.indicated_]}


def _explained(components: Estimator, names: Sequence[str]) -> dict[str, Any]:
    """Share of the variance of each component."""
    return {
        "explained": dict(zip(components.get_feature_names_out(names), components.explained_.tolist(), strict=True))
    }


def _kept_origins(selector: Estimator, n_columns: int) -> np.ndarray:
    """A column that stays is itself."""
    return np.asarray(np.eye(n_columns)[selector.kept_])


def _filled_origins(imputation: Estimator, n_columns: int) -> np.ndarray:
    """Whether a feature is unknown belongs to the feature."""
    return np.asarray(np.vstack([np.eye(n_columns), np.eye(n_columns)[imputation.indicated_]]))


def _component_origins(components: Estimator, n_columns: int) -> np.ndarray:
    """A component is divided among features by the squares of their weights, which add up to 1: the same shares for every row."""
    squares = np.asarray(components.components_, dtype=np.float64) ** 2
    return np.asarray(squares / squares.sum(axis=1, keepdims=True))


def _selector(
    name: str,
    build: Callable[[Mapping[str, Any], Setup], Estimator],
    params: Mapping[str, Param],
    *,
    reads_labels: bool = True,
    **options: bool,
) -> Step:
    return Step(
        name=name,
        build=build,
        params=params,
        format=arrays_format("kept_", "n_features_in_"),
        keeps_columns=False,
        reads_labels=reads_labels,
        most_columns=_k_at_most,
        origins=_kept_origins,
        report=_kept_and_dropped,
        **options,
    )


_K = Number(
    default=10, low=1, high=10_000, search=(2, 50), is_log=True, is_whole=True, meaning="features that stay, at most"
)

PREPROCESSING: dict[str, Step] = {
    "standard_scaling": Step(
        name="standard_scaling",
        build=build_standard_scaling,
        params={
            "with_mean": Flag(default=True, meaning="whether the mean is taken off"),
            "with_std": Flag(default=True, meaning="whether it is divided by the standard deviation"),
        },
        format=skops_format("sklearn.preprocessing._data.StandardScaler"),
        handles_missing=True,
    ),
    "min_max_scaling": Step(
        name="min_max_scaling",
        build=build_min_max_scaling,
        params={
            "low": Number(default=0.0, low=-1e6, high=0.0, meaning="what the smallest training value becomes"),
            "high": Number(default=1.0, low=1e-6, high=1e6, meaning="what the largest training value becomes"),
            "clip": Flag(default=False, meaning="whether later values beyond them become these"),
        },
        format=arrays_format("min_", "scale_", "n_features_in_"),
        handles_missing=True,
    ),
    "robust_scaling": Step(
        name="robust_scaling",
        build=build_robust_scaling,
        params={
            "low": Number(default=0.25, low=0.0, high=0.5, meaning="share of rows below the lower quantile"),
            "high": Number(default=0.75, low=0.5, high=1.0, meaning="share of rows below the upper quantile"),
        },
        format=arrays_format("center_", "scale_", "n_features_in_"),
        handles_missing=True,
    ),
    "quantile_scaling": Step(
        name="quantile_scaling",
        build=build_quantile_scaling,
        params={
            "n_quantiles": Number(
                default=1_000, low=2, high=100_000, is_whole=True, meaning="places, at most one a row"
            ),
            "distribution": Choice(
                default="uniform", names=("uniform", "normal"), is_searched=True, meaning="of the result"
            ),
        },
        format=arrays_format("quantiles_", "n_features_in_"),
        handles_missing=True,
    ),
    "winsorising": Step(
        name="winsorising",
        build=build_winsorising,
        params={
            "low": Number(
                default=0.01, low=0.0, high=0.5, meaning="share of training rows that is raised to the others"
            ),
            "high": Number(default=0.99, low=0.5, high=1.0, meaning="share of training rows that is not lowered"),
        },
        format=arrays_format("limits_", "n_features_in_"),
        handles_missing=True,
    ),
    "imputation": Step(
        name="imputation",
        build=build_imputation,
        params={
            "strategy": Choice(
                default="median", names=("mean", "median", "zero"), is_searched=True, meaning="what is filled in"
            ),
            "indicator": Flag(default=True, meaning="whether a column `<feature>_is_unknown` says where"),
        },
        format=arrays_format("fill_", "indicated_", "n_features_in_"),
        keeps_columns=False,
        handles_missing=True,
        fills_missing=True,
        most_columns=_with_indicators,
        origins=_filled_origins,
        report=_filled,
    ),
    "cross_sectional_rank": Step(
        name="cross_sectional_rank",
        build=build_cross_sectional_rank,
        params={},
        format=arrays_format(),
        is_keyed=True,
        handles_missing=True,
    ),
    "cross_sectional_score": Step(
        name="cross_sectional_score",
        build=build_cross_sectional_score,
        params={},
        format=arrays_format(),
        is_keyed=True,
        handles_missing=True,
    ),
    "k_best": _selector("k_best", build_k_best, {"k": _K}),
    "mutual_information": _selector(
        "mutual_information",
        build_mutual_information,
        {
            "k": _K,
            "n_neighbors": Number(default=3, low=1, high=100, is_whole=True, meaning="neighbours of the estimate"),
            "most_rows": Number(
                default=10_000, low=10, high=1_000_000, is_whole=True, meaning="rows that are looked at, evenly spaced"
            ),
        },
    ),
    "recursive_elimination": _selector(
        "recursive_elimination",
        build_recursive_elimination,
        {
            "k": _K,
            "step": Number(default=0.1, low=0.001, high=0.9, meaning="share of the features that is dropped at a time"),
        },
        takes_weights=True,
    ),
    "lasso_selection": _selector(
        "lasso_selection",
        build_lasso_selection,
        {
            "strength": Number(
                default=0.2,
                low=1e-6,
                high=1.0,
                search=(0.01, 0.9),
                is_log=True,
                meaning="penalty, as a share of the smallest that drops every feature",
            )
        },
        takes_weights=True,
    ),
    "decorrelation": _selector(
        "decorrelation",
        build_decorrelation,
        {
            "most": Number(
                default=0.95, low=0.0, high=1.0, meaning="largest correlation with an earlier feature that stays"
            )
        },
        reads_labels=False,
        handles_missing=True,
    ),
    "pca": Step(
        name="pca",
        build=build_pca,
        params={
            "variance_share": Number(
                default=0.95, low=0.01, high=1.0, search=(0.5, 0.99), meaning="share of the variance that is explained"
            ),
            "most": Number(default=100, low=1, high=10_000, is_whole=True, meaning="components, at most"),
            "standardise": Flag(default=True, meaning="whether each feature has deviation 1 first"),
        },
        format=arrays_format("mean_", "scale_", "components_", "explained_", "n_features_in_"),
        keeps_columns=False,
        most_columns=_components_at_most,
        origins=_component_origins,
        report=_explained,
    ),
}
