//! `why`: one test per cause that needs no cluster.
