{{/* A tree of values as TOML, a line for each leaf. (path, values) */}}
{{- define "apogee.toml" -}}
{{- $path := .path -}}
{{- range $key, $value := .values -}}
{{- $here := ternary $key (printf "%s.%s" $path $key) (eq $path "") -}}
{{- if kindIs "map" $value -}}
{{- include "apogee.toml" (dict "path" $here "values" $value) -}}
{{- else if kindIs "float64" $value -}}
{{- printf "%s = %s\n" $here (ternary (printf "%.0f" $value) (toString $value) (eq (floor $value) $value)) -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- printf "%s = %s\n" $here (toJson $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What all roles have in common. */}}
{{- define "apogee.config.common" -}}
listen: 0.0.0.0
cluster:
  name: {{ .Values.cluster.name | quote }}
log:
  format: {{ .Values.logging.format }}
  {{- with .Values.logging.level }}
  level: {{ . | quote }}
  {{- end }}
{{- end -}}

{{- define "apogee.config.proxy" -}}
{{ include "apogee.config.common" . }}
namesrv:
  addresses: {{ include "apogee.namesrv" . }}
auto_create: {{ .Values.proxy.autoCreate }}
grpc:
  max_connection_age: {{ .Values.proxy.grpc.maxConnectionAge | quote }}
  max_connection_age_grace: {{ .Values.proxy.grpc.maxConnectionAgeGrace | quote }}
{{- if .Values.proxy.tls.existingSecret }}
tls:
  cert: /etc/apogee/tls/tls.crt
  key: /etc/apogee/tls/tls.key
{{- end }}
{{- end -}}

{{- define "apogee.config.store-node" -}}
{{ include "apogee.config.common" . }}
namesrv:
  addresses: {{ include "apogee.namesrv" . }}
data: /var/lib/apogee/data
store:
  ack_mode: {{ .Values.storeNode.durability.ackMode }}
{{- end -}}

{{- define "apogee.config.namesrv" -}}
{{ include "apogee.config.common" . }}
data: /var/lib/apogee/data
replication_factor: {{ .Values.storeNode.replicationFactor }}
{{- if gt (int .Values.namesrv.replicas) 1 }}
member:
  all: {{ include "apogee.members" . }}
{{- end }}
{{- end -}}

{{- define "apogee.config.operator" -}}
{{ include "apogee.config.common" . }}
admin:
  address: {{ include "apogee.admin" . }}
lease:
  name: {{ include "apogee.component" (dict "root" . "component" "operator") }}
watch:
  store_nodes: {{ .Values.operator.storeNodes }}
  {{- if .Values.operator.watchAllNamespaces }}
  namespaces: ["*"]
  {{- end }}
{{- end -}}

{{/* The file of a role; what people set wins. (root, component, values) */}}
{{- define "apogee.config" -}}
{{- $ours := include (printf "apogee.config.%s" .component) .root | fromYaml -}}
{{- include "apogee.toml" (dict "path" "" "values" (mustMergeOverwrite $ours (deepCopy .values.config))) -}}
{{- end -}}
