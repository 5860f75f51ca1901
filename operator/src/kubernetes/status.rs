//! Writing status: on a change of meaning, or at most every 15 s.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{CallError, call};
use super::names;

/// Figures that changed without changing what holds wait this long.
pub const FIGURES_EVERY_MS: u64 = 15_000;

/// Whether a status should be written. `meaning`: conditions or anything else that people act on has changed;
/// `figures`: anything at all has.
#[must_use]
pub fn is_due(meaning: bool, figures: bool, last_written_ms: Option<u64>, now_ms: u64) -> bool {
    meaning || (figures && last_written_ms.is_none_or(|last| now_ms.saturating_sub(last) >= FIGURES_EVERY_MS))
}

/// Whether two lists of conditions say the same.
#[must_use]
pub fn same_conditions(old: &[Condition], new: &[Condition]) -> bool {
    let said = |c: &Condition| {
        (c.type_.clone(), c.status.clone(), c.reason.clone(), c.message.clone(), c.observed_generation)
    };
    old.iter().map(said).eq(new.iter().map(said))
}

/// Writes the status of one object, by server-side apply: what is left out goes.
///
/// # Errors
/// When the API server refuses or does not answer.
pub async fn write<K, S>(client: &Client, namespace: &str, name: &str, status: &S) -> Result<(), CallError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name},
        "status": status,
    });
    let params = PatchParams::apply(names::RECONCILER).force();
    let doing = format!("write the status of {} {namespace}/{name}", K::kind(&()));
    match call(doing, api.patch_status(name, &params, &Patch::Apply(&body))).await {
        // Deleted in between.
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(|_| ()),
    }
}

/// An age as people read it: the two largest units, such as `12s`, `3m5s`, `2h10m`, `4d3h`.
#[must_use]
pub fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let units = [(d, "d"), (h, "h"), (m, "m"), (s, "s")];
    let Some(first) = units.iter().position(|(count, _)| *count > 0) else { return "0s".to_owned() };
    units[first..]
        .iter()
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meaning_is_written_at_once_and_figures_in_their_time() {
        assert!(is_due(true, true, Some(100), 101));
        assert!(!is_due(false, true, Some(100), 15_099));
        assert!(is_due(false, true, Some(100), 15_100));
        assert!(!is_due(false, false, None, 15_100));
        assert!(is_due(false, true, None, 0));
    }

    #[test]
    fn ages_have_two_units_at_most() {
        let cases = [
            (999, "0s"),
            (12_000, "12s"),
            (185_000, "3m5s"),
            (3_600_000, "1h"),
            (7_805_000, "2h10m"),
            (356_400_000, "4d3h"),
        ];
        for (ms, expected) in cases {
            assert_eq!(age(ms), expected);
        }
    }
}
