//! The chart itself.

use std::time::Duration;

use anyhow::{Result, ensure};
use lanekeeper_tests::{command, release, scenario};

use crate::manifests;

#[test]
fn helm_test_enqueues_a_job_and_sees_it_done() {
    scenario::run("chart-test", async |world| {
        let args = ["test", release::NAME, "--namespace", release::NAMESPACE, "--timeout", "4m"];
        let said = world.cluster.helm(&args).await?;
        eprintln!("{}", said.out);
        said.success()?;
        let left = world
            .cluster
            .kubectl(&format!("-n {} get jobqueues -o name", release::NAMESPACE))
            .await?
            .success()?;
        ensure!(left.trim().is_empty(), "helm test left {left}");
        Ok(())
    });
}

#[test]
fn every_set_of_values_renders_objects_that_the_api_server_takes() {
    let sets: &[&[&str]] = &[
        &[],
        &["redis.enabled=true", "networkPolicy.enabled=true", "redis.maxmemory=100mb"],
        &[
            "redis.enabled=true",
            "redis.persistence.enabled=false",
            "redis.password=0123456789abcdef",
            "crds.keep=false",
        ],
        &[
            "watchNamespaces={lk-chart-values}",
            "clusterId=test",
            "replicas=3",
            "defaultRedis.urlSecretRef.name=mine",
            "defaultRedis.caSecretRef.name=ca",
            "serviceAccount.annotations.a=b",
            "podLabels.a=b",
            "podAnnotations.a=b",
            "extraArgs={--concurrency=8}",
            "extraEnv[0].name=A,extraEnv[0].value=b",
            "imagePullSecrets[0].name=pull",
            "priorityClassName=system-cluster-critical",
        ],
    ];
    scenario::run("chart-values", async |world| {
        for set in sets {
            let rendered = template(world, set).await?.success()?;
            let line =
                format!("-n {} apply --dry-run=server --server-side --force-conflicts -f -", world.namespace);
            let said = world.cluster.kubectl_with(&line, &rendered).await?;
            ensure!(!said.err.contains("Warning"), "with {set:?} the API server warns: {}", said.err);
            said.success()?;
        }
        Ok(())
    });
}

#[test]
fn values_that_cannot_work_are_refused_by_name() {
    scenario::run("chart-refusals", async |world| {
        for (set, word) in [
            ("replica=2", "'replica' not allowed"),
            ("image.pullPolicy=Sometimes", "pullPolicy"),
            ("redis.password=short", "/redis/password"),
            ("redis.appendfsync=no", "appendfsync"),
            ("watchNamespaces={Bad_Name}", "watchNamespaces"),
            ("networkPolicy.redisPorts={70000}", "redisPorts"),
        ] {
            let refusal = template(world, &[set]).await?.refusal()?;
            ensure!(refusal.contains(word), "{set}: {refusal}");
        }
        let two = ["redis.enabled=true", "defaultRedis.urlSecretRef.name=mine"];
        let refusal = template(world, &two).await?.refusal()?;
        ensure!(refusal.contains("exclude each other"), "{refusal}");
        Ok(())
    });
}

#[test]
fn the_operator_has_no_right_to_list_secrets() {
    scenario::run("chart-rights", async |world| {
        let who = format!("--as=system:serviceaccount:{}:{}", release::NAMESPACE, release::NAME);
        for (line, allowed) in [
            ("list secrets", false),
            ("watch secrets", false),
            ("create clusterroles", false),
            ("delete pods", false),
            ("delete jobqueues.lanekeeper.dev", false),
            ("get secrets", true),
            ("patch deployments.apps --subresource=scale", true),
            ("patch jobqueues.lanekeeper.dev --subresource=status", true),
            ("patch jobqueues.lanekeeper.dev", true),
            ("update jobqueues.lanekeeper.dev", false),
        ] {
            let said =
                world.cluster.kubectl(&format!("-n {} auth can-i {line} {who}", world.namespace)).await?;
            ensure!((said.out.trim() == "yes") == allowed, "can-i {line}: {}{}", said.out, said.err);
        }
        Ok(())
    });
}

#[test]
fn the_rights_are_those_that_the_api_server_tests_run_with() {
    scenario::run("chart-rules", async |world| {
        let chart = template(world, &["rbac.aggregateRoles=false"]).await?.success()?;
        let tested =
            std::fs::read_to_string(command::repository().join("operator/tests/kubernetes/rbac.yaml"))?;
        // leases are granted by a Role of the operator's own namespace; the other only matters with an admission plugin
        let chart = rules(world, &chart, "/finalizers").await?;
        let tested = rules(world, &tested, "leases").await?;
        ensure!(chart == tested, "the chart grants {chart:#?}\nthe tests run with {tested:#?}");
        Ok(())
    });
}

#[test]
fn roles_in_the_watched_namespaces_are_enough() {
    scenario::run("chart-scoped", async |world| {
        let watched = format!("watchNamespaces={{{},{}}}", world.namespace, release::NAMESPACE);
        release::install_with(&world.cluster, &[&watched]).await?;
        let outcome = one_job(world).await;
        // the other tests want every namespace; and the queue's finalizer wants an operator that sees it
        world
            .cluster
            .kubectl(&format!("-n {} delete workerpools,jobqueues --all", world.namespace))
            .await?
            .success()?;
        release::install(&world.cluster).await?;
        outcome
    });
}

async fn one_job(world: &scenario::World) -> Result<()> {
    let roles = world.cluster.kubectl("get clusterrole -o name").await?.success()?;
    let whole = format!("clusterrole.rbac.authorization.k8s.io/{}", release::NAME);
    ensure!(!roles.lines().any(|role| role == whole), "a ClusterRole is left: {roles}");
    world.apply(&manifests::quick("scoped", 1, "5s")).await?;
    let jobs = world.jobs("scoped").await?;
    let id = jobs.enqueue_when_ready("quick", "{}").await?;
    jobs.all_succeed(&[id], Duration::from_secs(120)).await?;
    world.objects().at_zero("scoped", Duration::from_secs(60)).await
}

/// The rules of every ClusterRole in a manifest, but those that name `without`, in an order that can be compared.
async fn rules(world: &scenario::World, manifest: &str, without: &str) -> Result<Vec<String>> {
    let roles = manifest.split("\n---").filter(|document| document.contains("\nkind: ClusterRole\n"));
    let mut rules = Vec::new();
    for role in roles {
        let json =
            world.cluster.kubectl_with("create --dry-run=client -o json -f -", role).await?.success()?;
        let role: serde_json::Value = serde_json::from_str(&json)?;
        rules.extend(role["rules"].as_array().into_iter().flatten().map(ToString::to_string));
    }
    rules.retain(|rule| !rule.contains(without));
    rules.sort();
    Ok(rules)
}

async fn template(world: &scenario::World, set: &[&str]) -> Result<lanekeeper_tests::command::Said> {
    let mut args = vec!["template", "other", release::CHART, "--namespace", &world.namespace, "--skip-tests"];
    for value in set {
        args.extend(["--set", value]);
    }
    world.cluster.helm(&args).await
}
