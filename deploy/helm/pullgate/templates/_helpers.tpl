{{- define "pullgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "pullgate.fullname" -}}
{{- $name := include "pullgate.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $full .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "pullgate.selector" -}}
app.kubernetes.io/name: {{ include "pullgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "pullgate.metadata" -}}
name: {{ include "pullgate.fullname" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "pullgate.labels" . | nindent 2 }}
{{- end -}}

{{- define "pullgate.labels" -}}
{{ include "pullgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "pullgate.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pullgate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "pullgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "pullgate.policies" -}}
{{- default (printf "%s-policies" (include "pullgate.fullname" .)) .Values.existingPolicies -}}
{{- end -}}

{{- define "pullgate.token" -}}
{{- default (printf "%s-admin" (include "pullgate.fullname" .)) .Values.admin.existingSecret -}}
{{- end -}}

{{/* The tables that the chart writes. Strings, numbers, booleans and lists are written in TOML as in JSON. TOML has no place for keys of a table after its subtables, so `auth` is last. */}}
{{- define "pullgate.config" -}}
{{ .Values.config }}
[[listener]]
address = {{ printf "%s:5000" .Values.listenAddress | toRawJson }}
{{- if .Values.tls.secretName }}

[listener.tls]
certificate = "/etc/pullgate/tls/tls.crt"
key = "/etc/pullgate/tls/tls.key"
{{- with .Values.tls.clientCaKey }}
client_ca = {{ printf "/etc/pullgate/tls/%s" . | toRawJson }}
{{- end }}
{{- end }}
{{- range .Values.upstreams }}

[[upstream]]
{{- range $key, $value := omit . "auth" }}
{{ $key }} = {{ toRawJson $value }}
{{- end }}
{{- with .auth }}

[upstream.auth]
{{- range $key, $value := . }}
{{ $key }} = {{ toRawJson $value }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "pullgate.claim" -}}
accessModes: {{- toYaml .Values.persistence.accessModes | nindent 2 }}
{{- with .Values.persistence.storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests: {storage: {{ .Values.persistence.size | quote }}}
{{- end -}}
