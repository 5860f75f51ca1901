//! A port-forward to a Redis that only the cluster can reach, through the API server.

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use kube::api::ListParams;
use redis::{ConnectionAddr, IntoConnectionInfo};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::kubernetes::Cluster;
use crate::failure::{Failure, Result};
use crate::redact::redact;

/// An open way to a pod's port; dropping it closes the way.
pub(crate) struct Forward {
    url: String,
    _listener: AbortOnDropHandle<()>,
}

impl Forward {
    /// The Redis URL that leads through it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Opens a way if the URL's host is a Service of the cluster; otherwise the URL is used as it is.
pub(crate) async fn open_if_needed(cluster: &Cluster, url: &str, namespace: &str) -> Result<Option<Forward>> {
    let info = url.into_connection_info().map_err(|error| {
        Failure::invalid(format!("`{}` is not a Redis URL: {}", redact(url), redact(&error.to_string())))
    })?;
    let (host, port, tls) = match info.addr() {
        ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
        ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
        _ => return Ok(None),
    };
    let Some((service, namespace)) = service_of(&host, namespace) else { return Ok(None) };
    let services: Api<Service> = Api::namespaced(cluster.client().clone(), &namespace);
    let found = services.get_opt(&service).await;
    let Some(found) =
        found.map_err(|error| cluster.failure(&format!("read Service {namespace}/{service}"), &error))?
    else {
        return Ok(None);
    };
    if tls {
        return Err(Failure::unreachable(format!(
            "{host} speaks TLS inside the cluster, and its certificate would not fit a port-forward"
        ))
        .advice("name an address that this machine can reach with --redis"));
    }
    let (pod, pod_port) = backend(cluster, &found, &namespace, port).await?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener
        .map_err(|error| Failure::failed(format!("no free port on the loopback interface: {error}")))?;
    let local = listener
        .local_addr()
        .map_err(|error| Failure::failed(format!("no address for the port-forward: {error}")))?;
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), &namespace);
    let task = tokio::spawn(accept(listener, pods, pod, pod_port));
    let url = replace_address(url, &format!("127.0.0.1:{}", local.port()));
    Ok(Some(Forward { url, _listener: AbortOnDropHandle::new(task) }))
}

/// Service and namespace that a host could name from within `namespace`.
fn service_of(host: &str, namespace: &str) -> Option<(String, String)> {
    if host == "localhost" || host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut labels = host.split('.');
    match (labels.next()?, labels.next(), labels.next()) {
        (service, None, _) => Some((service.to_owned(), namespace.to_owned())),
        (service, Some(namespace), None | Some("svc")) => Some((service.to_owned(), namespace.to_owned())),
        _ => None,
    }
}

/// A ready pod behind a Service, and the port of it that the Service's port leads to.
async fn backend(cluster: &Cluster, service: &Service, namespace: &str, port: u16) -> Result<(String, u16)> {
    let name = service.metadata.name.clone().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    let selector = spec.selector.unwrap_or_default();
    let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let pods: Api<Pod> = Api::namespaced(cluster.client().clone(), namespace);
    let list = pods.list(&ListParams::default().labels(&labels.join(","))).await;
    let list = list
        .map_err(|error| cluster.failure(&format!("list the pods of Service {namespace}/{name}"), &error))?;
    let ready = list.items.iter().find(|pod| !labels.is_empty() && is_ready(pod));
    let pod = ready.ok_or_else(|| {
        Failure::unreachable(format!("no pod behind Service {namespace}/{name} is ready"))
            .advice(format!("`kubectl -n {namespace} get pods` shows why"))
    })?;
    let service_port = spec.ports.iter().flatten().find(|p| p.port == i32::from(port));
    let target = service_port.map_or(Some(port), |service_port| pod_port(service_port, pod));
    let target = target.ok_or_else(|| {
        Failure::invalid(format!("port {port} of Service {namespace}/{name} leads to no port of its pod"))
    })?;
    Ok((pod.metadata.name.clone().unwrap_or_default(), target))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

fn pod_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|p| p.name.as_ref() == Some(name)).and_then(|p| u16::try_from(p.container_port).ok())
        }
    }
}

async fn accept(listener: TcpListener, pods: Api<Pod>, pod: String, port: u16) {
    while let Ok((stream, _)) = listener.accept().await {
        let (pods, pod) = (pods.clone(), pod.clone());
        tokio::spawn(async move {
            if let Err(error) = carry(stream, &pods, &pod, port).await {
                // The Redis client sees a closed connection and says so; this says why.
                tracing::warn!(%error, pod, "port-forward ended");
            }
        });
    }
}

async fn carry(
    mut stream: TcpStream,
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut forwarder = pods.portforward(pod, &[port]).await?;
    let mut upstream = forwarder.take_stream(port).ok_or("the API server opened no stream")?;
    tokio::io::copy_bidirectional(&mut stream, &mut upstream).await?;
    drop(upstream);
    forwarder.join().await?;
    Ok(())
}

/// The URL with another host and port; user, password and database stay.
fn replace_address(url: &str, address: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let user = authority.rsplit_once('@').map_or_else(String::new, |(user, _)| format!("{user}@"));
    format!("{scheme}://{user}{address}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_could_be_services_are_recognised() {
        let named =
            |host| service_of(host, "apps").map(|(service, namespace)| format!("{namespace}/{service}"));
        assert_eq!(named("redis").as_deref(), Some("apps/redis"));
        assert_eq!(named("redis.data").as_deref(), Some("data/redis"));
        assert_eq!(named("redis.data.svc.cluster.local").as_deref(), Some("data/redis"));
        assert_eq!(named("cache.eu.example.com"), None);
        assert_eq!(named("10.0.0.1"), None);
        assert_eq!(named("localhost"), None);
    }

    #[test]
    fn only_the_address_of_a_url_changes() {
        assert_eq!(
            replace_address("redis://u:p@redis.data:6379/2", "127.0.0.1:1"),
            "redis://u:p@127.0.0.1:1/2"
        );
        assert_eq!(replace_address("redis://redis", "127.0.0.1:1"), "redis://127.0.0.1:1");
    }
}
