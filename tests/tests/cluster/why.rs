//! `lanekeeper why`, for the causes that need a cluster.
