{{/* What the operator may do in each namespace it manages, and nothing more. */}}
{{- define "lanekeeper.rules" -}}
# patch: finalizers stand on the objects themselves
- {apiGroups: [lanekeeper.dev], resources: [jobqueues, workerpools], verbs: [get, list, watch, update, patch]}
- {apiGroups: [lanekeeper.dev], resources: [jobqueues/status, workerpools/status], verbs: [get, update, patch]}
# needed where OwnerReferencesPermissionEnforcement is on
- {apiGroups: [lanekeeper.dev], resources: [jobqueues/finalizers, workerpools/finalizers], verbs: [update]}
- {apiGroups: [apps], resources: [deployments], verbs: [get, list, watch, create, patch, delete]}
- {apiGroups: [apps], resources: [deployments/scale], verbs: [get, update, patch]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [get, list, create, patch, delete]}
# patch: which Pod goes first when a pool shrinks
- {apiGroups: [""], resources: [pods], verbs: [get, list, watch, patch]}
# by name only: never list, never watch
- {apiGroups: [""], resources: [secrets], verbs: [get, create, patch, delete]}
# one for each pool, without rights and without a token
- {apiGroups: [""], resources: [serviceaccounts], verbs: [get, create, patch, delete]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create, patch]}
{{- end -}}
