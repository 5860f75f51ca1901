{{- define "lanekeeper.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{- define "lanekeeper.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "lanekeeper.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "lanekeeper.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lanekeeper.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "lanekeeper.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Selector labels of one component: call with (list . "operator"). */}}
{{- define "lanekeeper.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "lanekeeper.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* repository:tag of one image: call with (list . .Values.image). */}}
{{- define "lanekeeper.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- printf "%s:%s" $image.repository (default $root.Chart.AppVersion $image.tag) -}}
{{- end -}}

{{- define "lanekeeper.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "lanekeeper.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What every container of this chart gives up. */}}
{{- define "lanekeeper.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "lanekeeper.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The Secret that holds the default Redis's admin URL; empty when there is none. */}}
{{- define "lanekeeper.redisSecret" -}}
{{- if .Values.redis.enabled -}}
{{- if .Values.defaultRedis.urlSecretRef.name -}}
{{- fail "redis.enabled and defaultRedis.urlSecretRef.name exclude each other: the default Redis is either the chart's or yours" -}}
{{- end -}}
{{- printf "%s-redis" (include "lanekeeper.fullname" .) -}}
{{- else -}}
{{- .Values.defaultRedis.urlSecretRef.name -}}
{{- end -}}
{{- end -}}

{{- define "lanekeeper.redisSecretKey" -}}
{{- if .Values.redis.enabled -}}url{{- else -}}{{ .Values.defaultRedis.urlSecretRef.key }}{{- end -}}
{{- end -}}

{{/* Does the operator manage the release's own namespace? Then `helm test` can use it. */}}
{{- define "lanekeeper.watchesItself" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}true{{- end -}}
{{- end -}}
