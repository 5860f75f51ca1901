//! Manifests that several tests use.

/// A queue with one lane and one type, and a pool for it, both of the name `name`. The job runs the worker's own
/// binary, which ends at once with success.
pub(crate) fn quick(name: &str, max_replicas: u32, idle_after: &str) -> String {
    format!(
        r#"
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {{name: {name}}}
spec:
  deletionPolicy: Delete
  defaults: {{completed: {{keep: 20000, for: 1h}}}}
  lanes:
  - name: only
    startWithin: 10s
    handler: {{exec: {{command: [/usr/local/bin/lanekeeper-worker, --version]}}}}
  jobTypes: [{{name: quick, lane: only, timeout: 60s}}]
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {{name: {name}}}
spec:
  queue: {name}
  lanes: [{{name: only}}]
  concurrency: 20
  scaling: {{maxReplicas: {max_replicas}, idleAfter: {idle_after}}}
  template: {{resources: {{requests: {{cpu: 50m, memory: 32Mi}}, limits: {{memory: 256Mi}}}}}}
"#
    )
}

/// A queue whose jobs sleep for as long as their payload says, in an image that is not Lanekeeper's, and a pool.
pub(crate) fn sleepy(name: &str, replicas: &str, lease: &str) -> String {
    format!(
        r#"
apiVersion: lanekeeper.dev/v1beta1
kind: JobQueue
metadata: {{name: {name}}}
spec:
  deletionPolicy: Delete
  lease: {lease}
  defaults: {{completed: {{keep: 20000, for: 1h}}}}
  lanes:
  - name: only
    startWithin: 10s
    handler: {{exec: {{command: [/bin/sh, -c, 'read seconds; exec sleep "$seconds"']}}}}
  jobTypes: [{{name: sleep, lane: only, timeout: 5m}}]
---
apiVersion: lanekeeper.dev/v1beta1
kind: WorkerPool
metadata: {{name: {name}}}
spec:
  queue: {name}
  lanes: [{{name: only}}]
  concurrency: 10
  scaling: {{{replicas}, idleAfter: 5s}}
  drainTimeout: 30s
  template:
    image: localhost/busybox:1
    resources: {{requests: {{cpu: 50m, memory: 32Mi}}, limits: {{memory: 256Mi}}}}
"#
    )
}
