//! Loading real files: kinds, places of errors, overlays.

use std::fs;

use super::{check, load, load_with, parse, parse_with, reason};
use crate::testing::{POOL, QUEUE, SAAS};
use crate::validate::reason as problem;

/// `line field: message` of every error.
fn errors(text: &str) -> Vec<String> {
    let errors = parse(&[("f.yaml", text)]).map(|_| ()).unwrap_err();
    errors.iter().map(ToString::to_string).collect()
}

fn with(from: &str, to: &str) -> String {
    assert!(QUEUE.contains(from), "{from}");
    QUEUE.replacen(from, to, 1)
}

#[test]
fn loads_every_kind_and_names_what_it_leaves_alone() {
    let text = format!("{SAAS}---\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n");
    let manifests = parse(&[("saas.yaml", &text)]).unwrap();
    assert_eq!((manifests.queues.len(), manifests.pools.len(), manifests.secrets.len()), (1, 2, 1));
    assert_eq!((manifests.ignored[0].kind.as_str(), manifests.ignored[0].name.as_str()), ("Service", "web"));
    assert_eq!(manifests.secret("apps", "customer-webhooks").unwrap().data["hmac"], b"not-a-real-secret");
    assert!(!format!("{manifests:?}").contains("not-a-real-secret"));
    let pool = &manifests.pools[0];
    assert_eq!(pool.spec.template.image.as_deref(), Some("ghcr.io/acme/app:1.4"));
    assert_eq!(pool.origin.line_of("spec.concurrency"), Some(69));
    let checked = check(&manifests, true);
    assert_eq!(checked.errors, []);
    let warned: Vec<_> = checked.warnings.iter().map(|w| (w.reason, w.value.as_str(), w.line)).collect();
    let unserved = reason::UNSERVED_LANE;
    assert_eq!(warned, [(unserved, "outbound-webhooks", Some(12)), (unserved, "batch-fast", Some(13))]);
    assert_eq!(check(&manifests, false).warnings, []);
}

#[test]
fn a_missing_namespace_is_default_and_lists_are_unpacked() {
    let list = format!(
        "kind: List\napiVersion: v1\nitems:\n-{}",
        QUEUE.trim_start().replace('\n', "\n  ").replacen("api", " api", 1)
    );
    for text in [QUEUE, &list] {
        let manifests = parse(&[("f.yaml", text)]).unwrap();
        assert_eq!(manifests.queues[0].queue_name(), "default/q");
    }
}

#[test]
fn secrets_are_decoded_and_string_data_wins() {
    let text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==, b: Yg==}\nstringData: {b: c}\n";
    let manifests = parse(&[("f.yaml", text)]).unwrap();
    let secret = manifests.secret("default", "s").unwrap();
    assert_eq!(
        (secret.data["a"].as_slice(), secret.data["b"].as_slice()),
        (b"a".as_slice(), b"c".as_slice())
    );
    let broken = errors(&text.replace("YQ==", "'*'"));
    assert!(broken[0].contains("f.yaml:4: Secret default/s: data.a: "), "{broken:?}");
}

#[test]
fn unknown_fields_are_errors_with_line_path_and_suggestion() {
    assert_eq!(
        errors(&with("{name: slow}", "{name: slow, startWithn: 5s}")),
        [
            r#"f.yaml:8: JobQueue default/q: spec.lanes[1].startWithn: there is no such field (did you mean "startWithin"?)"#
        ]
    );
    let all = errors(
        &with("spec:\n", "spec:\n  rateLimits: 1\n  Paused: true\n")
            .replace("name: q", "name: q, label: {}}\nspce: {a: b"),
    );
    assert_eq!(all.len(), 4, "{all:#?}");
    assert!(
        all[0].contains(r#"metadata.label: there is no such field (did you mean "labels"?)"#),
        "{all:#?}"
    );
    assert!(
        all[1]
            .contains(r#"f.yaml:5: JobQueue default/q: spce: there is no such field (did you mean "spec"?)"#),
        "{all:#?}"
    );
}

#[test]
fn types_choices_and_bounds_say_what_to_write() {
    for (from, to, message) in [
        (
            "{name: slow}",
            "{name: slow, startWithin: 10}",
            "8: JobQueue default/q: spec.lanes[1].startWithin: \"10\": must be a duration with its unit, such as 10s or 5m; here is a number",
        ),
        (
            "{name: slow}",
            "{name: slow, startWithin: 10x}",
            "spec.lanes[1].startWithin: \"10x\" is not a duration",
        ),
        (
            "{name: slow}",
            "{name: slow, retry: {jitter: 200%}}",
            "spec.lanes[1].retry.jitter: \"200%\" is no jitter",
        ),
        (
            "{name: slow}",
            "{name: 5}",
            "spec.lanes[1].name: \"5\": must be text: put it in quotes; here is a number",
        ),
        ("{name: slow}", "slow", "spec.lanes[1]: \"slow\": must be a mapping (key: value); here is text"),
        ("{name: slow}", "", "spec.lanes[1]: must be a mapping (key: value); here is nothing"),
        ("spec:\n", "spec:\n  maxPayload: 256KB\n", "spec.maxPayload: \"256KB\" is not a size"),
        (
            "spec:\n",
            "spec:\n  paused: maybe\n",
            "spec.paused: \"maybe\": must be true or false; here is text",
        ),
        (
            "spec:\n",
            "spec:\n  deletionPolicy: retain\n",
            "must be one of Retain, Delete (did you mean \"Retain\"?)",
        ),
        (
            "lane: fast,",
            "lane: fast, priority: 300,",
            "spec.jobTypes[0].priority: \"300\": must be from 0 to 9",
        ),
        (
            "lane: fast,",
            "lane: fast, priority: 1.5,",
            "spec.jobTypes[0].priority: \"1.5\": must be a whole number",
        ),
        (
            "lane: fast,",
            "lane: fast, retry: {backoff: {exponential: {factor: .nan}}},",
            "f.yaml:10: JobQueue default/q: spec.jobTypes[0].retry.backoff.exponential.factor: \".nan\": must be from 1 to 100",
        ),
        (
            "lane: fast,",
            "lane: fast, retry: {backoff: {exponential: {factor: .inf}}},",
            "spec.jobTypes[0].retry.backoff.exponential.factor: \".inf\": must be from 1 to 100",
        ),
        (
            "lane: fast,",
            "lane: fast, retry: {backoff: {exponential: {factor: -.Inf}}},",
            "spec.jobTypes[0].retry.backoff.exponential.factor: \"-.inf\": must be from 1 to 100",
        ),
        (
            "lane: fast,",
            "lane: fast, priority: .nan,",
            "spec.jobTypes[0].priority: \".nan\": must be from 0 to 9",
        ),
        ("lane: fast,", "lane: .inf,", "spec.jobTypes[0].lane: \".inf\": must be text: put it in quotes"),
        ("spec:\n", "spec:\n  defaults: .nan\n", "spec.defaults: \".nan\": must be a mapping"),
        ("lane: fast,", "", "spec.jobTypes[0].lane: is required: The lane its jobs stand in"),
        ("name: q", "name: q, labels: {a: 1}", "metadata.labels.a: \"1\": must be text: put it in quotes"),
    ] {
        let found = errors(&with(from, to));
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert!(found[0].contains(message), "{to}: {found:#?}");
    }
    assert_eq!(errors("apiVersion: lanekeeper.dev/v1beta1\nkind: JobQueue\nmetadata: {name: q}\n").len(), 1);
}

#[test]
fn an_empty_value_is_as_good_as_none() {
    let text = with("{name: slow}", "{name: slow, retry: , handler: null}")
        .replace("spec:\n", "spec:\n  defaults:\n  redis:\n");
    let manifests = parse(&[("f.yaml", &text)]).unwrap();
    assert_eq!(manifests.queues[0].spec.lanes[1].retry, None);
    assert_eq!(manifests.queues[0].spec.defaults, crate::job_queue::PolicyDefaults::default());
}

#[test]
fn wrong_versions_kinds_and_texts_are_told_apart() {
    for (text, message) in [
        (
            QUEUE.replace("v1beta1", "v1"),
            "apiVersion: \"lanekeeper.dev/v1\": a JobQueue has the apiVersion lanekeeper.dev/v1beta1",
        ),
        (
            QUEUE.replace("JobQueue", "Jobqueue"),
            "f.yaml:3: kind: \"Jobqueue\": lanekeeper.dev/v1beta1 has no such kind (did you mean \"JobQueue\"?)",
        ),
        (QUEUE.replace("name: q", "nome: q"), "JobQueue: metadata.name: is required"),
        (
            QUEUE.replace("name: q", "name: 7"),
            "f.yaml:4: JobQueue: metadata.name: must be text: put it in quotes",
        ),
        ("just text".to_owned(), "is no manifest"),
        ("kind: JobQueue\n".to_owned(), "is no manifest"),
        ("a: [1\nb: 2\n".to_owned(), "f.yaml:2: this is not valid YAML"),
        ("a: 1\na: 2\n".to_owned(), "duplicate entry"),
        (
            format!("{QUEUE}---\n{QUEUE}"),
            "f.yaml:13 (document 2): JobQueue default/q: is there already, in f.yaml:2",
        ),
    ] {
        let found = errors(&text);
        assert!(found[0].contains(message), "{found:#?}");
    }
}

#[test]
fn brackets_without_end_are_refused_at_once() {
    for open in ["[", "{", "{a: ["] {
        let text = format!("{QUEUE}---\nkind: {}\n", open.repeat(200_000));
        let errors = errors(&text);
        let line = QUEUE.lines().count() + 2;
        assert!(errors[0].contains("nested") && errors[0].contains(&format!("f.yaml:{line}")), "{errors:?}");
    }
}

#[test]
fn paths_may_be_files_and_directories_which_are_not_descended() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("b.yml"), POOL).unwrap();
    fs::write(dir.path().join("a.yaml"), QUEUE).unwrap();
    fs::write(dir.path().join("notes.txt"), "not: [yaml").unwrap();
    fs::create_dir(dir.path().join("deeper")).unwrap();
    fs::write(dir.path().join("deeper/c.yaml"), "not: [yaml").unwrap();
    let manifests = load(&[dir.path()]).unwrap();
    assert_eq!((manifests.queues.len(), manifests.pools.len()), (1, 1));

    let empty = tempfile::tempdir().unwrap();
    let missing = empty.path().join("none.yaml");
    let errors = load(&[empty.path(), missing.as_path()]).unwrap_err();
    assert_eq!((errors[0].reason, errors[1].reason), (reason::EMPTY, reason::UNREADABLE));
    assert!(errors[1].to_string().ends_with("none.yaml: there is no such file or directory"));
}

#[test]
fn check_compares_the_objects_and_names_places() {
    let pool = POOL.replace("name: fast", "name: fasst");
    let manifests = parse(&[("q.yaml", QUEUE), ("p.yaml", &pool)]).unwrap();
    let checked = check(&manifests, true);
    assert_eq!(checked.errors.len(), 1);
    let error = checked.errors[0].to_string();
    assert!(error.starts_with("p.yaml:7: WorkerPool default/p: spec.lanes[0].name: \"fasst\": "), "{error}");
    assert_eq!(checked.warnings[0].reason, problem::UNUSED_LANE);

    let manifests = parse(&[("p.yaml", &POOL.replace("queue: q", "queue: w"))]).unwrap();
    assert_eq!(check(&manifests, true).errors[0].reason, reason::NOT_FOUND);
    assert_eq!(check(&manifests, false).errors, []);
}

#[test]
fn secrets_that_are_named_must_be_there_when_nothing_else_is() {
    for (from, to) in [
        ("stringData: {hmac", "stringData: {hamc"),
        ("{name: customer-webhooks, namespace: apps}", "{name: x}"),
    ] {
        let manifests = parse(&[("f.yaml", &SAAS.replace(from, to))]).unwrap();
        let errors = check(&manifests, true).errors;
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].field, "spec.jobTypes[4].handler.http.signing.secretRef");
        assert_eq!(errors[0].line, Some(50));
        assert_eq!(check(&manifests, false).errors, []);
    }
}

fn patched(patch: &str) -> Result<super::Manifests, Vec<String>> {
    let patch = format!("apiVersion: lanekeeper.dev/v1beta1\n{patch}");
    parse_with(&[("saas.yaml", SAAS)], &[("demo.yaml", &patch)])
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[test]
fn an_overlay_changes_what_it_says_and_nothing_else() {
    let manifests = patched(
        "kind: JobQueue\nmetadata: {name: saas, namespace: apps}\nspec:\n  lease: 5s\n  lanes:\n  - {name: batch-slow, timeout: null}\n  \
         jobTypes:\n  - {name: stripe-event, retry: {backoff: {schedule: [1s]}}}\n---\napiVersion: lanekeeper.dev/v1beta1\n\
         kind: WorkerPool\nmetadata: {name: user-fast, namespace: apps}\nspec: {scaling: {maxReplicas: 3}}\n",
    )
    .unwrap();
    let before = parse(&[("saas.yaml", SAAS)]).unwrap();
    let (old, new) = (&before.queues[0].spec, &manifests.queues[0].spec);
    assert_eq!(new.lease.to_string(), "5s");
    assert_eq!(new.lanes[4].timeout, None);
    let stripe = new.job_types[3].retry.as_ref().unwrap();
    assert_eq!(stripe.backoff.schedule.as_ref().unwrap().len(), 1);
    assert_eq!(stripe.jitter.to_string(), "20%", "merged, not replaced");
    assert_eq!(new.job_types[..3], old.job_types[..3]);
    assert_eq!(manifests.pools[0].spec.scaling.max_replicas, 3);
    assert_eq!(manifests.pools[0].spec.scaling.depth_per_replica, Some(200));
    assert_eq!(manifests.queues[0].origin.overlays, ["demo.yaml"]);
}

#[test]
fn an_overlay_that_matches_nothing_is_an_error() {
    for (patch, message) in [
        (
            "kind: JobQueue\nmetadata: {name: sass, namespace: apps}\nspec: {}\n",
            "demo.yaml:1: JobQueue apps/sass: no manifest of this kind and name is loaded (did you mean \"apps/saas\"?)",
        ),
        (
            "kind: JobQueue\nmetadata: {name: saas, namespace: apps}\nspec:\n  jobTypes:\n  - {name: stripe-evnt, timeout: 1s}\n",
            "demo.yaml:6: JobQueue apps/saas: spec.jobTypes[0]: \"stripe-evnt\": the manifest has no item of this name in that list (did you mean \"stripe-event\"?)",
        ),
        (
            "kind: JobQueue\nmetadata: {name: saas, namespace: apps}\nspec: {leese: 1s}\n",
            "demo.yaml:4: JobQueue apps/saas: spec.leese: there is no such field (did you mean \"lease\"?)",
        ),
        (
            "kind: JobQueue\nmetadata: {name: saas, namespace: apps}\nspec:\n  jobTypes:\n  - {timeout: 1s}\n",
            "spec.jobTypes[0].name: is required",
        ),
        (
            "kind: JobQueue\nmetadata: {name: saas, namespace: apps}\nspec: {lanes: null}\n",
            "saas.yaml:9: JobQueue apps/saas: spec.lanes: is required: Classes of jobs, each with one latency promise (after the overlay demo.yaml)",
        ),
    ] {
        let found = patched(patch).unwrap_err();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(message), "{found:#?}");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("q.yaml"), QUEUE).unwrap();
    assert!(load_with(&[dir.path()], &[dir.path().join("none.yaml")]).is_err());
}
