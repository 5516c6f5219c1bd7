{{/* The pods of a role, as a peer of a NetworkPolicy. (root, component) */}}
{{- define "apogee.of" -}}
- podSelector:
    matchLabels:
      {{- include "apogee.selector" . | nindent 6 }}
{{- end -}}

{{/* Who may read the metrics of a role. (root) */}}
{{- define "apogee.metrics.ingress" -}}
- ports: [{port: metrics}]
  {{- with .root.Values.networkPolicy.metricsSelectors }}
  from:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
