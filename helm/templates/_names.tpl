{{/* Names and labels. */}}

{{- define "apogee.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "apogee.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "apogee.name" . -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (root, component) */}}
{{- define "apogee.component" -}}
{{- printf "%s-%s" (include "apogee.fullname" .root) .component -}}
{{- end -}}

{{/* What never changes, for selectors. (root, component) */}}
{{- define "apogee.selector" -}}
app.kubernetes.io/name: {{ include "apogee.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* (root, component) */}}
{{- define "apogee.labels" -}}
{{ include "apogee.selector" . }}
app.kubernetes.io/part-of: apogee
app.kubernetes.io/version: {{ .root.Values.image.tag | default .root.Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* metadata of an object. (root, component, name, labels, annotations) */}}
{{- define "apogee.metadata" -}}
name: {{ .name | default (include "apogee.component" .) }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "apogee.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "apogee.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry -}}
{{- $repository := ternary (printf "%s/%s" $registry .Values.image.repository) .Values.image.repository (ne $registry "") -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "apogee.token.secret" -}}
{{- .Values.cluster.existingSecret | default (include "apogee.component" (dict "root" . "component" "token")) -}}
{{- end -}}

{{/* (root, values, component) */}}
{{- define "apogee.account" -}}
{{- if .values.serviceAccount.create -}}
{{- .values.serviceAccount.name | default (include "apogee.component" .) -}}
{{- else -}}
{{- .values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Name of a pod of a StatefulSet, or of the headless Service itself, as everybody in the cluster finds it. (root, component, pod) */}}
{{- define "apogee.host" -}}
{{- printf "%s.%s.svc.%s" (include "apogee.component" .) .root.Release.Namespace .root.Values.clusterDomain -}}
{{- end -}}

{{/* The admin port of the proxies, as everybody in the cluster finds it. */}}
{{- define "apogee.admin" -}}
{{- printf "%s-admin.%s.svc.%s:8088" (include "apogee.fullname" .) .Release.Namespace .Values.clusterDomain -}}
{{- end -}}

{{/* The addresses of all namesrv. */}}
{{- define "apogee.namesrv" -}}
{{- $root := . -}}
{{- $component := include "apogee.component" (dict "root" . "component" "namesrv") -}}
{{- $all := list -}}
{{- range $at := until (int .Values.namesrv.replicas) -}}
{{- $all = append $all (printf "%s-%d.%s:9876" $component $at (include "apogee.host" (dict "root" $root "component" "namesrv"))) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The members of namesrv. */}}
{{- define "apogee.members" -}}
{{- $root := . -}}
{{- $component := include "apogee.component" (dict "root" . "component" "namesrv") -}}
{{- $all := list -}}
{{- range $at := until (int .Values.namesrv.replicas) -}}
{{- $all = append $all (printf "%d=%s-%d.%s:9876/9878" (add1 $at) $component $at (include "apogee.host" (dict "root" $root "component" "namesrv"))) -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}
