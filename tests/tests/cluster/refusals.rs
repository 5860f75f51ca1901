//! Manifests that cannot work are refused by `kubectl apply`, with a sentence that helps.
