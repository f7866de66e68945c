"""joblib, and with it scikit-learn, on the session's workers."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

import orchestrator as ray
from orchestrator.util.joblib import register, register_ray

joblib = pytest.importorskip("joblib")
pytestmark = pytest.mark.usefixtures("shared_session")

Parallel, delayed = joblib.Parallel, joblib.delayed


@pytest.fixture(autouse=True)
def backend():
    register_ray()
    with joblib.parallel_backend("ray", n_jobs=2):
        yield


class TestParallel:
    def test_results_in_order(self):
        assert Parallel()(delayed(pow)(number, 2) for number in range(100)) == [n * n for n in range(100)]

    def test_it_runs_in_workers(self):
        pids = set(Parallel()(delayed(lambda: time.sleep(0.05) or os.getpid())() for _ in range(8)))
        assert os.getpid() not in pids
        assert 1 <= len(pids) <= 2

    def test_as_results_come(self):
        results = Parallel(return_as="generator_unordered")(delayed(abs)(-number) for number in range(20))
        assert sorted(results) == list(range(20))

    def test_all_cpus_of_the_session(self):
        assert joblib.effective_n_jobs(-1) == 2

    def test_an_error_ends_it(self):
        with pytest.raises(ZeroDivisionError):
            Parallel()(delayed(divmod)(1, number) for number in (1, 0, 2, 3))
        assert Parallel()(delayed(divmod)(7, number) for number in (2, 3)) == [(3, 1), (2, 1)]

    def test_one_in_another(self):
        def outer(number):
            return sum(Parallel(n_jobs=2)(delayed(pow)(number, power) for power in range(3)))

        assert Parallel()(delayed(outer)(number) for number in range(3)) == [1, 3, 7]

    def test_options_of_the_tasks(self):
        with joblib.parallel_backend("ray", n_jobs=2, ray_remote_args={"num_cpus": 2, "name": "batch"}):
            names = Parallel()(delayed(lambda: ray.get_runtime_context().get_task_name())() for _ in range(2))
        assert set(names) == {"batch"}

    def test_its_other_name(self):
        register()
        with joblib.parallel_backend("orchestrator", n_jobs=2):
            assert Parallel()(delayed(abs)(-number) for number in range(3)) == [0, 1, 2]

    def test_what_cannot_be_pickled(self):
        with pytest.raises(TypeError, match="lock"):
            Parallel()(delayed(id)(threading.Lock()) for _ in range(4))


class TestArrays:
    def test_small_ones_can_be_written_to(self):
        def fill(array):
            array[:] = 1
            return array

        ones = Parallel()(delayed(fill)(np.zeros(10)) for _ in range(4))
        assert all(one.sum() == 10 for one in ones)
        ones[0][:] = 2  # and so can results

    def test_a_large_one_is_stored_once_for_all_calls(self):
        table = np.arange(1 << 18, dtype=np.float64)  # 2 MiB

        def look(array):
            return array.__array_interface__["data"][1], float(array.sum())

        assert set(Parallel()(delayed(look)(table) for _ in range(8))) == {(True, float(table.sum()))}

    @pytest.mark.parametrize("wish", [{"max_nbytes": None}, {"mmap_mode": None}, {"mmap_mode": "c"}])
    def test_it_can_be_written_to_if_asked_for(self, wish):
        table = np.zeros(1 << 18)

        def fill(array):
            array += 1
            return float(array.sum())

        assert set(Parallel(**wish)(delayed(fill)(table) for _ in range(4))) == {float(1 << 18)}
        assert table.sum() == 0

    def test_but_not_for_all_to_see(self):
        with pytest.raises(ValueError, match="shared arrays are immutable"):
            Parallel(mmap_mode="w+")(delayed(abs)(number) for number in range(3))


class TestScikitLearn:
    @pytest.fixture(autouse=True)
    def sklearn(self):
        return pytest.importorskip("sklearn")

    @pytest.fixture
    def digits(self):
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)

    def test_a_grid_search_finds_what_it_finds_serially(self, digits):
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

        data, labels = digits[0][:300], digits[1][:300]
        grid = {"C": [0.1, 1.0], "gamma": [0.001, 0.01]}
        here = GridSearchCV(SVC(), grid, cv=3, n_jobs=1).fit(data, labels)
        there = GridSearchCV(SVC(), grid, cv=3).fit(data, labels)
        assert there.best_params_ == here.best_params_
        np.testing.assert_allclose(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"])

    def test_cross_validation_of_a_forest(self, digits):
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import cross_val_score

        scores = cross_val_score(RandomForestClassifier(n_estimators=10, random_state=0), *digits, cv=3)
        assert scores.min() > 0.8

    def test_clustering_that_writes_to_its_input(self, digits):
        """An estimator that needs writable memory, as with joblib's own backends."""
        from sklearn.cluster import DBSCAN

        data = digits[0]
        here = DBSCAN(eps=20, n_jobs=1).fit(data)
        there = DBSCAN(eps=20, n_jobs=2).fit(data)
        assert (here.labels_ == there.labels_).all()


def test_without_joblib(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "joblib", None)
    with pytest.raises(ImportError, match="pip install joblib"):
        register_ray()
