//! What is printed when a test on the cluster fails.

use crate::cluster::Cluster;
use crate::release;

/// Prints objects, Events and logs of a namespace and of the operator.
pub async fn print(cluster: &Cluster, namespace: &str) {
    let operator = release::NAMESPACE;
    for line in [
        format!("-n {namespace} get jobqueues,workerpools,deployments,poddisruptionbudgets,pods -o wide"),
        format!("-n {namespace} get jobqueues,workerpools -o yaml"),
        format!("-n {namespace} get events --sort-by=.lastTimestamp"),
        format!("-n {namespace} describe pods"),
        format!(
            "-n {namespace} logs -l app.kubernetes.io/managed-by=lanekeeper --all-containers --prefix --tail=40"
        ),
        format!("-n {operator} get pods -o wide"),
        format!("-n {operator} logs deployment/{} --tail=60", release::NAME),
    ] {
        eprintln!("\n---- kubectl {line}");
        match cluster.kubectl(&line).await {
            Ok(said) => eprintln!("{}{}", said.out, said.err),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}
