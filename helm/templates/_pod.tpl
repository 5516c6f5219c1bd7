{{/* The pod of a role, one for all of them. (root, component, role, values, ports, storage, startup) */}}
{{- define "apogee.pod" -}}
{{- $root := .root -}}
{{- $values := .values -}}
metadata:
  labels:
    {{- include "apogee.labels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "apogee.config" . | sha256sum }}
    {{- with merge (dict) $values.podAnnotations $root.Values.commonAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "apogee.account" . }}
  automountServiceAccountToken: {{ eq .component "operator" }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ int $values.terminationGracePeriodSeconds }}
  {{- with include "apogee.pull.secrets" $root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    {{- include "apogee.over" (dict "default" "apogee.security.pod" "values" $values.podSecurityContext) | nindent 4 }}
  {{- with $values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .component }}
      image: {{ include "apogee.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ concat (list .component "--config" (printf "/etc/apogee/role/%s.toml" .component)) $values.extraArgs | toJson }}
      env:
        - name: APOGEE_CLUSTER__TOKEN_FILE
          value: /etc/apogee/token/token
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_NAMESPACE
          valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        - name: NODE_NAME
          valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
        {{- if eq .component "store-node" }}
        - name: APOGEE_NODE__ADVERTISE
          value: $(POD_NAME).{{ include "apogee.host" . }}
        - name: APOGEE_NODE__ZONE
          valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
        {{- end }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with $values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}}
        {{- end }}
        - {name: metrics, containerPort: 5557}
        - {name: health, containerPort: 8086}
      startupProbe:
        {{- include "apogee.over" (dict "default" "apogee.probe.startup" "values" $values.startupProbe "failures" .startup) | nindent 8 }}
      readinessProbe:
        {{- include "apogee.over" (dict "default" "apogee.probe.readiness" "values" $values.readinessProbe) | nindent 8 }}
      livenessProbe:
        {{- include "apogee.over" (dict "default" "apogee.probe.liveness" "values" $values.livenessProbe) | nindent 8 }}
      securityContext:
        {{- include "apogee.over" (dict "default" "apogee.security.container" "values" $values.containerSecurityContext) | nindent 8 }}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/apogee/role, readOnly: true}
        - {name: token, mountPath: /etc/apogee/token, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- if .storage }}
        - {name: data, mountPath: /var/lib/apogee}
        {{- end }}
        {{- if eq .component "proxy" }}
        {{- if $values.tls.existingSecret }}
        - {name: tls, mountPath: /etc/apogee/tls, readOnly: true}
        {{- end }}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    {{- with $values.sidecars }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "apogee.component" . }}}
    - name: token
      secret: {secretName: {{ include "apogee.token.secret" $root }}, defaultMode: 288}
    - name: tmp
      emptyDir: {}
    {{- if .storage }}
    {{- if not $values.persistence.enabled }}
    - name: data
      emptyDir: {}
    {{- end }}
    {{- end }}
    {{- if eq .component "proxy" }}
    {{- with $values.tls.existingSecret }}
    - name: tls
      secret: {secretName: {{ . }}, defaultMode: 288}
    {{- end }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with include "apogee.affinity" . }}
  affinity:
    {{- . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- with $values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "apogee.selector" . | nindent 10 }}
    {{- end }}
{{- end -}}

{{/* A default, and what people set instead of some of it. (default, values, more of the default) */}}
{{- define "apogee.over" -}}
{{- mustMergeOverwrite (include .default . | fromYaml) (deepCopy .values) | toYaml -}}
{{- end -}}

{{- define "apogee.pull.secrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end -}}

{{- define "apogee.security.pod" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "apogee.security.container" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "apogee.probe.startup" -}}
httpGet: {path: /startupz, port: health}
periodSeconds: 1
timeoutSeconds: 2
failureThreshold: {{ .failures }}
{{- end -}}

{{- define "apogee.probe.readiness" -}}
httpGet: {path: /readyz, port: health}
periodSeconds: 5
timeoutSeconds: 2
failureThreshold: 2
{{- end -}}

{{- define "apogee.probe.liveness" -}}
httpGet: {path: /livez, port: health}
periodSeconds: 10
timeoutSeconds: 2
failureThreshold: 3
{{- end -}}

{{/* What keeps pods of a role apart. (root, component, values) */}}
{{- define "apogee.affinity" -}}
{{- if .values.affinity -}}
{{- toYaml .values.affinity -}}
{{- else if and (eq (.values.antiAffinity | default "preferred") "required") (gt (int .values.replicas) 1) -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "apogee.selector" . | nindent 10 }}
{{- else -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "apogee.selector" . | nindent 12 }}
{{- end -}}
{{- end -}}

{{/* What goes beside every role: its file, its account and its budget. (root, component, values, pdb) */}}
{{- define "apogee.beside" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  {{- include "apogee.metadata" . | nindent 2 }}
data:
  {{ .component }}.toml: |
    {{- include "apogee.config" . | nindent 4 }}
{{- if .values.serviceAccount.create }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "apogee.metadata" (merge (dict "name" (include "apogee.account" .) "annotations" .values.serviceAccount.annotations) .) | nindent 2 }}
automountServiceAccountToken: false
{{- end }}
{{- if .values.pdb.enabled }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "apogee.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.pdb.maxUnavailable }}
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "apogee.selector" . | nindent 6 }}
{{- end }}
{{- end -}}

{{/* How many pods a StatefulSet has. One that the operator scales stays as it is. (root, component, values) */}}
{{- define "apogee.set.replicas" -}}
{{- $replicas := int .values.replicas -}}
{{- if and (eq .component "store-node") (include "apogee.scales" .root) -}}
{{- $live := lookup "apps/v1" "StatefulSet" .root.Release.Namespace (include "apogee.component" .) -}}
{{- $replicas = int (dig "spec" "replicas" $replicas $live) -}}
{{- end -}}
{{- $replicas -}}
{{- end -}}

{{/* Not empty if the operator scales store-nodes. */}}
{{- define "apogee.scales" -}}
{{- if and .Values.operator.enabled .Values.operator.storeNodes -}}true{{- end -}}
{{- end -}}

{{/* A StatefulSet and its headless Service. (as apogee.pod) */}}
{{- define "apogee.set" -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "apogee.metadata" . | nindent 2 }}
spec:
  clusterIP: None
  # The pods find each other before they are ready, which they are only together.
  publishNotReadyAddresses: true
  selector:
    {{- include "apogee.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
    - {name: metrics, port: 5557, targetPort: metrics}
---
apiVersion: apps/v1
kind: StatefulSet
metadata:
  {{- include "apogee.metadata" . | nindent 2 }}
spec:
  serviceName: {{ include "apogee.component" . }}
  replicas: {{ include "apogee.set.replicas" . }}
  podManagementPolicy: Parallel
  minReadySeconds: {{ .settled }}
  selector:
    matchLabels:
      {{- include "apogee.selector" . | nindent 6 }}
  template:
    {{- include "apogee.pod" . | nindent 4 }}
  {{- with .values.persistence }}
  {{- if .enabled }}
  persistentVolumeClaimRetentionPolicy:
    {{- toYaml .retentionPolicy | nindent 4 }}
  volumeClaimTemplates:
    - metadata:
        name: data
        labels:
          {{- include "apogee.selector" $ | nindent 10 }}
      spec:
        accessModes:
          {{- toYaml .accessModes | nindent 10 }}
        {{- with .storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources: {requests: {storage: {{ .size }}}}
  {{- end }}
  {{- end }}
{{- end -}}
