//! Defects of the library that are known and not yet mended, so that the run goes on to find others. Each has a function
//! here; mend it, and delete the function.

use lanekeeper_queue::testing::model::{Model, Reply};
use lanekeeper_queue::types::Job;

/// The model's reply as the library is known to give it.
pub fn adapt(mut expected: Reply, found: &Reply, model: &Model) -> Reply {
    match (&mut expected, found) {
        (Reply::Jobs(expected), Reply::Jobs(found)) => expected
            .iter_mut()
            .zip(found)
            .filter_map(|(a, b)| Some((a.as_mut()?, b.as_ref()?)))
            .for_each(|(a, b)| hidden_lease(a, b, model)),
        (Reply::Found(expected), Reply::Found(found)) => {
            expected.iter_mut().zip(found).for_each(|(a, b)| hidden_lease(a, b, model));
        }
        _ => {}
    }
    expected
}

/// `get`, `find` and `dead_list` show a running job without its lease once a cancellation was asked for or a sweeper took
/// it over: the typed side (`record.rs`, `split_lease`) refuses a lease with more fields than the first three.
fn hidden_lease(expected: &mut Job, found: &Job, model: &Model) {
    if found.id == expected.id && found.lease.is_none() && model.is_lease_marked(&expected.id) {
        expected.lease = None;
    }
}
