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

{{/* Helm reads no TOML in all versions that the chart supports, so this finds the usual mistakes only. Keys may be quoted. */}}
{{- define "pullgate.checkConfig" -}}
{{- if regexMatch `(?m)^\s*(["']?state_dir["']?\s*=|\[\s*["']?policy["']?\s*\]|["']?policy["']?\s*[.=])` . }}
{{- fail "config must not set state_dir or [policy]: the chart sets them" }}
{{- end }}
{{- $inTable := `(?m)^\s*\[\s*["']?admin["']?\s*\].*\n([ \t]*([^\[\s].*)?\n)*[ \t]*["']?(address|token_file)["']?\s*=` }}
{{- if or (regexMatch $inTable .) (regexMatch `(?m)^\s*["']?admin["']?\s*(\.\s*["']?(address|token_file)\b|=.*\b(address|token_file)\b)` .) }}
{{- fail "config must not set admin.address or admin.token_file: the chart sets them" }}
{{- end }}
{{- /* Lines of a text over several lines can look like anything. */}}
{{- if not (or (contains `"""` .) (contains `'''` .)) }}
{{- if regexMatch `(?m)^\s*[A-Za-z0-9_-]+\s*:` . }}
{{- fail "config is TOML and not YAML: write `key = value`, and tables as `[table]`" }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What the schema could only refuse without saying why. */}}
{{- define "pullgate.checkNames" -}}
{{- $own := list "PULLGATE_CONFIG" "PULLGATE__STATE_DIR" "PULLGATE__POLICY__DIR" "PULLGATE__ADMIN__ADDRESS" "PULLGATE__ADMIN__TOKEN_FILE" }}
{{- range $index, $variable := .Values.env }}
{{- if has $variable.name $own }}
{{- fail (printf "env[%d].name must not be %s: the chart sets this variable" $index $variable.name) }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.policies }}
{{- if not (regexMatch `^[-._a-zA-Z0-9]+\.ya?ml$` $name) }}
{{- fail (printf "policies: %q cannot be the name of a file: it needs letters, digits, dots, underscores and hyphens, and ends in .yaml or .yml" $name) }}
{{- end }}
{{- end }}
{{- /* The files of a Secret that is not mounted are missing: the gate does not start, or pulls without its credentials. */}}
{{- $config := regexReplaceAll `(?m)^\s*#.*$` .Values.config "" }}
{{- range regexFindAll `["']/etc/pullgate/secrets/[^/"'\s]+` (cat (toRawJson .Values.upstreams) $config) -1 }}
{{- if not (has (base .) $.Values.secrets) }}
{{- fail (printf "%s is not there: add %s to secrets, which names the Secrets whose files the gate reads" . (base .)) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Whole seconds of a duration such as 1m30s. */}}
{{- define "pullgate.seconds" -}}
{{- $total := 0 -}}
{{- range regexFindAll `[0-9]+(ms|[smhdw])` . -1 -}}
{{- $unit := get (dict "ms" 0 "s" 1 "m" 60 "h" 3600 "d" 86400 "w" 604800) (regexFind `[a-z]+` .) -}}
{{- $total = add $total (mul $unit (regexFind `[1-9][0-9]*` . | int64)) -}}
{{- end -}}
{{- $total -}}
{{- end -}}

{{/* A pod that is killed before its gate has stopped cuts the transfers that the gate still waits for. */}}
{{- define "pullgate.checkDrain" -}}
{{- $delay := "5s" }}
{{- $grace := "30s" }}
{{- with regexFind `(?m)^\s*["']?shutdown_grace["']?\s*=\s*["'][^"'\n]*` .Values.config }}
{{- $grace = regexFind `[^"']*$` . }}
{{- end }}
{{- range .Values.env }}
{{- if eq .name "PULLGATE__SHUTDOWN_DELAY" }}{{ $delay = default "0s" .value }}{{ end }}
{{- if eq .name "PULLGATE__SHUTDOWN_GRACE" }}{{ $grace = default "0s" .value }}{{ end }}
{{- end }}
{{- $drain := add (include "pullgate.seconds" $delay) (include "pullgate.seconds" $grace) }}
{{- if le (int64 .Values.terminationGracePeriodSeconds) $drain }}
{{- fail (printf "terminationGracePeriodSeconds must be more than shutdown_delay (%s) and shutdown_grace (%s) together, or transfers are cut" $delay $grace) }}
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

{{/* Whether networkPolicy.egress is the default of values.yaml, to which the ports of other values are added. */}}
{{- define "pullgate.hasDefaultEgress" -}}
{{- if eq (toRawJson .Values.networkPolicy.egress) `[{"ports":[{"port":443,"protocol":"TCP"}]}]` }}true{{ end -}}
{{- end -}}

{{/* Ports besides 443 in the URLs of the values, as a JSON list: what the default egress rule would cut off. */}}
{{- define "pullgate.egressPorts" -}}
{{- $config := regexReplaceAll `(?m)^\s*#.*$` .Values.config "" }}
{{- $urls := regexFindAll `https?://[^\s"'/,\\]+` (cat (toRawJson .Values.upstreams) $config) -1 }}
{{- range .Values.env }}
{{- if and .value (regexMatch `(?i)^(https?|all)_proxy$` .name) }}
{{- $urls = append $urls (ternary .value (printf "http://%s" .value) (contains "://" .value)) }}
{{- else if and .value (hasPrefix "PULLGATE__" .name) }}
{{- $urls = concat $urls (regexFindAll `https?://[^\s"'/,\\]+` .value -1) }}
{{- end }}
{{- end }}
{{- /* A registry without a URL is at its host. */}}
{{- range .Values.upstreams }}{{ if not .url }}{{ $urls = append $urls (printf "https://%s" .host) }}{{ end }}{{ end }}
{{- range regexFindAll `(?m)^\s*["']?host["']?\s*=\s*["'][^"'\n]+` $config -1 }}
{{- $urls = append $urls (printf "https://%s" (regexFind `[^"']*$` .)) }}
{{- end }}
{{- $ports := list }}
{{- range $urls }}
{{- $authority := regexReplaceAll `^[A-Za-z0-9+.-]+://([^/]*@)?([^/]*).*$` . "${2}" }}
{{- $port := regexFind `:[0-9]+$` $authority | trimPrefix ":" }}
{{- $port = default (ternary "80" "443" (hasPrefix "http://" .)) $port }}
{{- /* IBM's registries have their notary servers on this port. */}}
{{- if regexMatch `(^|\.)icr\.io(:|$)` $authority }}{{ $ports = append $ports "4443" }}{{ end }}
{{- if ne $port "443" }}{{ $ports = append $ports $port }}{{ end }}
{{- end }}
{{- $ports | uniq | sortAlpha | toRawJson }}
{{- end -}}

{{/* The bytes of a size such as 20Gi or 200GiB. */}}
{{- define "pullgate.bytes" -}}
{{- $units := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "k" 1000 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "P" 1000000000000000 -}}
{{- $unit := regexFind `[A-Za-z]+` . | trimSuffix "B" -}}
{{- mulf (regexFind `[0-9]+(\.[0-9]+)?` . | float64) (get $units $unit) | int64 -}}
{{- end -}}

{{/* cache.max_size, as it is written in the values, or its default. */}}
{{- define "pullgate.maxSize" -}}
{{- $size := "200GiB" }}
{{- $table := regexFind `(?ms)^\s*\[\s*cache\s*\][^\[]*` .Values.config }}
{{- with regexFind `(?m)^\s*["']?max_size["']?\s*=\s*["'][^"'\n]*` $table | default (regexFind `(?m)^\s*cache\s*\.\s*["']?max_size["']?\s*=\s*["'][^"'\n]*` .Values.config) }}
{{- $size = regexFind `[^"']*$` . }}
{{- end }}
{{- range .Values.env }}
{{- if and .value (eq .name "PULLGATE__CACHE__MAX_SIZE") }}{{ $size = .value }}{{ end }}
{{- end }}
{{- $size }}
{{- end -}}
