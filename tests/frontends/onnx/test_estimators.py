"""Estimators of scikit-learn, as skl2onnx exports them, for any number of samples: compiled, against scikit-learn's own
predictions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stepwell

pytest.importorskip("sklearn", reason="no estimator is tested without scikit-learn: pip install 'stepwell[test]'")
skl2onnx = pytest.importorskip(
    "skl2onnx", reason="no estimator is tested without skl2onnx, which exports them: pip install 'stepwell[test]'"
)

from skl2onnx.common.data_types import FloatTensorType  # noqa: E402
from sklearn import (  # noqa: E402
    cluster,
    decomposition,
    discriminant_analysis,
    ensemble,
    impute,
    linear_model,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.pipeline import make_pipeline  # noqa: E402

CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "decision tree": lambda: tree.DecisionTreeClassifier(max_depth=5, random_state=0),
    "random forest": lambda: ensemble.RandomForestClassifier(7, max_depth=6, random_state=0),
    "extra trees": lambda: ensemble.ExtraTreesClassifier(7, max_depth=6, random_state=0),
    "gradient boosting": lambda: ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0),
    "ada boost": lambda: ensemble.AdaBoostClassifier(n_estimators=4, random_state=0),
    "bagging": lambda: ensemble.BaggingClassifier(n_estimators=3, random_state=0),
    "logistic regression": lambda: linear_model.LogisticRegression(max_iter=300),
    "gradient descent": lambda: linear_model.SGDClassifier(random_state=0),
    "ridge": lambda: linear_model.RidgeClassifier(),
    "perceptron": lambda: linear_model.Perceptron(random_state=0),
    "linear svc": lambda: svm.LinearSVC(random_state=0),
    "svc": lambda: svm.SVC(kernel="rbf"),
    "polynomial svc": lambda: svm.SVC(kernel="poly", degree=3),
    "svc with probabilities": lambda: svm.SVC(probability=True, random_state=0),
    "nu svc": lambda: svm.NuSVC(kernel="sigmoid", nu=0.2),
    "gaussian bayes": lambda: naive_bayes.GaussianNB(),
    "nearest neighbours": lambda: neighbors.KNeighborsClassifier(3),
    "quadratic discriminant": lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(),
    "network": lambda: neural_network.MLPClassifier((8,), max_iter=60, random_state=0),
    "scaled": lambda: make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=300)),
}

REGRESSORS: dict[str, Callable[[], Any]] = {
    "linear regression": lambda: linear_model.LinearRegression(),
    "elastic net": lambda: linear_model.ElasticNet(0.1),
    "decision tree": lambda: tree.DecisionTreeRegressor(max_depth=6, random_state=0),
    "random forest": lambda: ensemble.RandomForestRegressor(6, max_depth=6, random_state=0),
    "gradient boosting": lambda: ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0),
    "svr": lambda: svm.SVR(),
    "linear svr": lambda: svm.SVR(kernel="linear"),
    "nearest neighbours": lambda: neighbors.KNeighborsRegressor(3),
    "network": lambda: neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, random_state=0),
}

TRANSFORMERS: dict[str, Callable[[], Any]] = {
    "standard scaler": lambda: preprocessing.StandardScaler(),
    "min-max scaler": lambda: preprocessing.MinMaxScaler(),
    "normalizer l1": lambda: preprocessing.Normalizer("l1"),
    "normalizer l2": lambda: preprocessing.Normalizer("l2"),
    "normalizer max": lambda: preprocessing.Normalizer("max"),
    "binarizer": lambda: preprocessing.Binarizer(threshold=0.3),
    "imputer": lambda: impute.SimpleImputer(),
    "principal components": lambda: decomposition.PCA(3),
    "k means": lambda: cluster.KMeans(4, n_init=2, random_state=0),
}


def samples(rows: int = 200, columns: int = 6) -> Any:
    """Numbers that few thresholds of a tree fall on."""
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def compiled(estimator: Any, columns: int = 6) -> stepwell.Model:
    has_maps = hasattr(estimator, "classes_") and not isinstance(estimator, svm.LinearSVC)
    options = {id(estimator): {"zipmap": False}} if has_maps else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        proto = skl2onnx.to_onnx(
            estimator, initial_types=[("x", FloatTensorType([None, columns]))], options=options, target_opset=18
        )
    return stepwell.compile(proto)


def fitted(make: Callable[[], Any], x: Any, y: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make().fit(x, y)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, classes: int) -> None:
    x = samples()
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64) + (classes == 3) * (x[:, 3] > 0.6)
    estimator = fitted(CLASSIFIERS[name], x, y * 3 + 1)
    model = compiled(estimator)
    for rows in (1, 200):
        labels, scores, *_ = model(x[:rows])
        np.testing.assert_array_equal(labels.reshape(-1), estimator.predict(x[:rows]))
        if hasattr(estimator, "predict_proba"):
            np.testing.assert_allclose(scores, estimator.predict_proba(x[:rows]), atol=2e-5)


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name: str) -> None:
    x = samples()
    estimator = fitted(REGRESSORS[name], x, 2 * x[:, 0] - x[:, 1] * x[:, 2] + 5)
    model = compiled(estimator)
    for rows in (1, 200):
        made = model(x[:rows])
        expected = estimator.predict(x[:rows])
        np.testing.assert_allclose(np.asarray(made).reshape(expected.shape), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    x = samples()
    if name == "imputer":
        x[::5, 2] = np.nan
    estimator = fitted(TRANSFORMERS[name], x)
    made = compiled(estimator)(x)
    made = made[-1] if isinstance(made, tuple) else made
    np.testing.assert_allclose(made, estimator.transform(x), rtol=2e-5, atol=2e-5)


def test_outliers() -> None:
    x = samples()
    estimator = fitted(lambda: svm.OneClassSVM(gamma=0.1), x)
    labels, *_ = compiled(estimator)(x)
    np.testing.assert_array_equal(labels.reshape(-1), estimator.predict(x))


@pytest.mark.parametrize("classes", [2, 3])
def test_linear_discriminant(classes: int) -> None:
    """Of two classes the export is a softmax of both signs of the decision, which is the logistic function of twice the
    decision: scikit-learn takes that of the decision itself. The model is run as it is written."""
    x = samples()
    y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(np.int64) + (classes == 3) * (x[:, 3] > 0.6)
    estimator = fitted(lambda: discriminant_analysis.LinearDiscriminantAnalysis(), x, y)
    labels, scores, *_ = compiled(estimator)(x)
    np.testing.assert_array_equal(labels, estimator.predict(x))
    expected = estimator.predict_proba(x)
    if classes == 2:
        decision = estimator.decision_function(x)
        np.testing.assert_allclose(expected[:, 1], 1 / (1 + np.exp(-decision)), atol=2e-5)
        expected = np.stack([1 / (1 + np.exp(2 * decision)), 1 / (1 + np.exp(-2 * decision))], 1)
    np.testing.assert_allclose(scores, expected, atol=2e-5)


def test_probabilities_as_maps() -> None:
    """As skl2onnx exports them by default."""
    x = samples()
    estimator = fitted(lambda: linear_model.LogisticRegression(), x, np.where(x[:, 0] > 0, "yes", "no"))
    _, found = stepwell.compile(skl2onnx.to_onnx(estimator, x[:1]))(x)
    assert [list(row) for row in found] == [["no", "yes"]] * len(x)
    np.testing.assert_allclose([list(row.values()) for row in found], estimator.predict_proba(x), atol=2e-5)
