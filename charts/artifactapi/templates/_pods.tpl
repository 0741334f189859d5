{{/* Parts of pods. Both modes put theirs together from these. */}}

{{/*
The chart's own variables without those that the user has set, and the user's: a name twice is refused on the server's
side, and by the program a secret that is given in the variable and in its file. Takes (dict "own" yaml "extra" list).
*/}}
{{- define "artifactapi.env" -}}
{{- $names := list -}}
{{- range .extra }}{{ $names = concat $names (list .name (printf "%s_FILE" .name) (trimSuffix "_FILE" .name)) }}{{ end -}}
{{- $all := list -}}
{{- range fromYamlArray .own -}}
{{- if not (has .name $names) }}{{ $all = append $all . }}{{ end -}}
{{- end -}}
{{- concat $all .extra | toYaml -}}
{{- end -}}

{{/* What concerns the scheduling of a pod. Takes the section of its component. */}}
{{- define "artifactapi.scheduling" -}}
{{- with .priorityClassName -}}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (dict "root" $ "component" … "constraints" list). */}}
{{- define "artifactapi.spread" -}}
{{- $selector := dict "matchLabels" (include "artifactapi.selector" . | fromYaml) -}}
{{- $default := list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash")) -}}
topologySpreadConstraints:
{{- range .constraints | default $default }}
  {{- toYaml (list (merge (dict) . (dict "labelSelector" $selector))) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of a pod: none that change with the chart alone, or every release would replace it. Takes (dict "root" $ "component" … "section" …). */}}
{{- define "artifactapi.podMetadata" -}}
labels:
  {{- include "artifactapi.selector" . | nindent 2 }}
  {{- with merge (dict) .section.podLabels .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) .section.podAnnotations .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What is common to all pods. */}}
{{- define "artifactapi.podBasics" -}}
# What a pod may ask of the API server it says by a volume of its own, if it asks anything.
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The operator's token, as Kubernetes would mount it, for its container alone. */}}
{{- define "artifactapi.tokenVolume" -}}
- name: token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items: [{key: ca.crt, path: ca.crt}]
      - downwardAPI:
          items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]
{{- end -}}

{{- define "artifactapi.trustVolume" -}}
{{- with .Values.trustedCA.configMap -}}
- name: trusted-ca
  configMap:
    name: {{ . | quote }}
    items: [{key: {{ $.Values.trustedCA.key | quote }}, path: ca.pem}]
{{- end }}
{{- end -}}

{{- define "artifactapi.trustMount" -}}
{{- if .Values.trustedCA.configMap -}}
- {name: trusted-ca, mountPath: /etc/artifactapi/trusted-ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* The image's own are in the first, and would be left out if only the other one were named. */}}
{{- define "artifactapi.trustEnv" -}}
{{- if .Values.trustedCA.configMap }}
- {name: SSL_CERT_DIR, value: "/etc/ssl/certs:/etc/artifactapi/trusted-ca"}
{{- end }}
{{- end -}}

{{/* What the operator is told in both modes. */}}
{{- define "artifactapi.operatorEnv" -}}
{{- $ceilings := .Values.operator.ceilings -}}
- {name: RUST_LOG, value: {{ .Values.operator.log | quote }}}
- {name: ARTIFACTAPI_METRICS_ADDR, value: ":9091"}
- name: ARTIFACTAPI_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- {name: ARTIFACTAPI_LEASE, value: {{ include "artifactapi.lease" . | quote }}}
- {name: ARTIFACTAPI_WATCH_NAMESPACES, value: {{ include "artifactapi.watched" . | quote }}}
- {name: ARTIFACTAPI_PUBLIC_URL, value: {{ .Values.publicURL | quote }}}
- {name: ARTIFACTAPI_ALLOW_MIRROR_FOR, value: {{ join "," $ceilings.mirrorFor | quote }}}
- {name: ARTIFACTAPI_ALLOW_ROOT_MIRROR, value: {{ $ceilings.rootMirror | quote }}}
- {name: ARTIFACTAPI_ALLOW_CIDRS, value: {{ join "," $ceilings.allowCIDRs | quote }}}
- {name: ARTIFACTAPI_ALLOW_PROXIES, value: {{ join "," $ceilings.proxies | quote }}}
- {name: ARTIFACTAPI_RESYNC, value: {{ .Values.operator.resync | quote }}}
- {name: ARTIFACTAPI_NAME_GRACE, value: {{ .Values.operator.nameGrace | quote }}}
{{- include "artifactapi.trustEnv" . }}
{{- end -}}

{{/* The operator's container but for the sink. Takes (dict "root" $ "env" yaml "mounts" yaml). */}}
{{- define "artifactapi.operatorContainer" -}}
{{- $section := .root.Values.operator -}}
name: operator
image: {{ include "artifactapi.image" (dict "root" .root "image" $section.image) | quote }}
imagePullPolicy: {{ $section.image.pullPolicy }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
env:
  {{- include "artifactapi.env" (dict "own" (printf "%s\n%s" (include "artifactapi.operatorEnv" .root) .env) "extra" $section.extraEnv) | nindent 2 }}
{{- with $section.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: operator, containerPort: 9091, protocol: TCP}
livenessProbe:
  httpGet: {path: /livez, port: operator}
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: operator}
  periodSeconds: 5
  timeoutSeconds: 3
resources:
  {{- toYaml $section.resources | nindent 2 }}
volumeMounts:
  - {name: token, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- with include "artifactapi.trustMount" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- .mounts | nindent 2 }}
  {{- with $section.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* What the proxy is told in both modes. */}}
{{- define "artifactapi.proxyEnv" -}}
- {name: LISTEN_ADDR, value: ":8000"}
- {name: ARTIFACTAPI_METRICS_ADDR, value: ":9090"}
- {name: ARTIFACTAPI_LOG_FORMAT, value: {{ .Values.proxy.logFormat | quote }}}
- {name: ARTIFACTAPI_DRAIN, value: "{{ include "artifactapi.drainSeconds" . }}s"}
- {name: ARTIFACTAPI_PUBLIC_URL, value: {{ .Values.publicURL | quote }}}
- {name: ARTIFACTAPI_TRUSTED_PROXIES, value: {{ join "," .Values.trustedProxies | quote }}}
- {name: ARTIFACTAPI_GC_INTERVAL, value: {{ .Values.collection.interval | quote }}}
- {name: ARTIFACTAPI_GC_GRACE, value: {{ .Values.collection.grace | quote }}}
{{- if .Values.tls.existingSecret }}
- {name: ARTIFACTAPI_TLS_CERT, value: /etc/artifactapi/tls/tls.crt}
- {name: ARTIFACTAPI_TLS_KEY, value: /etc/artifactapi/tls/tls.key}
{{- end }}
{{- include "artifactapi.trustEnv" . }}
{{- end -}}

{{/* The proxy's container but for its stores. Takes (dict "root" $ "command" … "env" yaml "mounts" yaml "ports" yaml "resources" dict). */}}
{{- define "artifactapi.proxyContainer" -}}
{{- $section := .root.Values.proxy -}}
{{- $scheme := include "artifactapi.scheme" .root | upper -}}
name: proxy
image: {{ include "artifactapi.image" (dict "root" .root "image" $section.image) | quote }}
imagePullPolicy: {{ $section.image.pullPolicy }}
args: [{{ .command }}]
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .root.Values.securityContext | nindent 2 }}
env:
  {{- include "artifactapi.env" (dict "own" (printf "%s\n%s" (include "artifactapi.proxyEnv" .root) .env) "extra" $section.extraEnv) | nindent 2 }}
{{- with $section.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
ports:
  - {name: http, containerPort: 8000, protocol: TCP}
  - {name: metrics, containerPort: 9090, protocol: TCP}
  {{- with .ports }}
  {{- . | nindent 2 }}
  {{- end }}
# Whoever waits for a store is alive, and says at /readyz what it waits for.
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: 2
resources:
  {{- toYaml (.resources | default $section.resources) | nindent 2 }}
volumeMounts:
  {{- if .root.Values.tls.existingSecret }}
  - {name: tls, mountPath: /etc/artifactapi/tls, readOnly: true}
  {{- end }}
  {{- with include "artifactapi.trustMount" .root }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- .mounts | nindent 2 }}
  {{- with $section.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "artifactapi.tlsVolume" -}}
{{- with .Values.tls.existingSecret -}}
- name: tls
  secret: {secretName: {{ . | quote }}}
{{- end }}
{{- end -}}
