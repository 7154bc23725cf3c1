"""k-mixup for scikit-learn: a sampler for any estimator that takes sample weights, and two neural networks."""

try:
    from kmixup.adapters.sklearn.networks import KMixupClassifier, KMixupRegressor
    from kmixup.adapters.sklearn.sampler import KMixupSampler, Vicinal
except ImportError as error:
    raise ImportError(
        f"kmixup.adapters.sklearn needs scikit-learn >= 1.6: pip install 'kmixup[sklearn]' ({error})"
    ) from error

__all__ = ["KMixupClassifier", "KMixupRegressor", "KMixupSampler", "Vicinal"]
