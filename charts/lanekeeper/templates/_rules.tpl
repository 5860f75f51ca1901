{{/*
What the operator may do in each namespace it manages, and nothing more. The API-server tests run the operator with
exactly these rights (operator/tests/kubernetes/rbac.yaml); a test of the chart compares the two.
*/}}
{{- define "lanekeeper.rules" -}}
# patch: finalizers stand on the objects themselves
- {apiGroups: [lanekeeper.dev], resources: [jobqueues, workerpools], verbs: [get, list, watch, patch]}
- {apiGroups: [lanekeeper.dev], resources: [jobqueues/status, workerpools/status], verbs: [patch]}
# needed where OwnerReferencesPermissionEnforcement is on
- {apiGroups: [lanekeeper.dev], resources: [jobqueues/finalizers, workerpools/finalizers], verbs: [update]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, patch]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, patch]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, create, patch, delete]}
# one for each pool, without rights and without a token
- {apiGroups: [""], resources: [serviceaccounts], verbs: [get, create, patch, delete]}
# by name only: never list, never watch
- {apiGroups: [""], resources: [secrets], verbs: [get, create, patch, delete]}
# patch: which Pod goes first when a pool shrinks
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, patch]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
{{- end -}}
