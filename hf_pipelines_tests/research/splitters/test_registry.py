"""The contract of every splitter: no row is on both sides, none shares an instant, and its defaults work."""

import numpy as np
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.model_selection import GridSearchCV, cross_val_score

from hf_pipelines.research.params import Number
from hf_pipelines.research.splitters import DEFAULT_SPLITTER, SPLITTERS, build_splitter
from hf_pipelines.research.splitters.splitter import has_paths
from hf_pipelines_tests.research.splitters.panels import meets, ragged_times

each_splitter = pytest.mark.parametrize("name", sorted(SPLITTERS))


@each_splitter
@pytest.mark.parametrize("seed", range(3))
def test_every_splitter_keeps_its_folds_apart_with_its_defaults_on_420_sessions(name, seed):
    # The longest label takes the last sessions of a symbol away.
    times = ragged_times(sessions=430, symbols=3, longest=20, seed=seed)
    assert times["session"].n_unique() <= 425
    splitter = build_splitter(name)
    session = times["session"].to_numpy()
    folds = list(splitter.split(times))
    paths = list(splitter.paths(times)) if has_paths(splitter) else [np.zeros(len(test)) for _, test in folds]
    later = []
    for train, test in folds:
        assert train.dtype == test.dtype == np.int64 and len(train) and len(test)
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
        assert not set(session[train]) & set(session[test])
        assert not meets(times, test)[train].any()
        later.append(times["label_end"][train].max() >= times["ts"][test].min())
    assert any(later) == SPLITTERS[name].trains_on_later
    if SPLITTERS[name].trains_on_later:
        tested = [
            (row, path) for (_, test), of in zip(folds, paths, strict=True) for row, path in zip(test, of, strict=True)
        ]
        assert len(tested) == len(set(tested))


@each_splitter
def test_every_splitter_works_in_sklearn(name):
    times = ragged_times(sessions=430, symbols=1, longest=3, seed=1)
    X, y = np.zeros((times.height, 1)), np.arange(times.height, dtype=float)
    scores = cross_val_score(DummyRegressor(), X, y, groups=times, cv=build_splitter(name))
    assert len(scores) == build_splitter(name).get_n_splits(X, y, times) and np.isfinite(scores).all()
    # A search asks for the number of folds first.
    search = GridSearchCV(DummyRegressor(), {"strategy": ["mean", "median"]}, cv=build_splitter(name))
    assert len(search.fit(X, y, groups=times).cv_results_["params"]) == 2


@each_splitter
def test_every_splitter_names_itself_and_refuses_what_it_cannot_use(name):
    entry = SPLITTERS[name]
    assert entry.name == name and entry.summary and all(each.meaning for each in entry.params.values())
    with pytest.raises(ValueError, match=rf"`params` of '{name}' must be among \[.*'embargo_sessions'.*\['zeal'\]"):
        build_splitter(name, {"zeal": 1})
    with pytest.raises(TypeError, match=f"`embargo_sessions` of '{name}' must be a whole number, was 2.5"):
        build_splitter(name, {"embargo_sessions": 2.5})
    numbers = {parameter: param for parameter, param in entry.params.items() if isinstance(param, Number)}
    for parameter, param in numbers.items():
        with pytest.raises(ValueError, match=f"`{parameter}` of '{name}' must be from .*, was {param.high + 1}"):
            build_splitter(name, {parameter: param.high + 1})


def test_the_default_is_a_splitter_and_an_unknown_name_lists_the_known():
    assert DEFAULT_SPLITTER in SPLITTERS
    with pytest.raises(ValueError, match=r"`cross_validation` must be one of \[.*'purged_kfold', .*was 'kfold'"):
        build_splitter("kfold")
