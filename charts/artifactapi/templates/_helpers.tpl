{{/* Names, labels and references that several templates use. */}}

{{- define "artifactapi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
With room for the suffixes of components. What is too long ends with a hash of the whole, or two long releases could have
one name.
*/}}
{{- define "artifactapi.fullname" -}}
{{- $whole := .Values.fullnameOverride -}}
{{- if not $whole -}}
{{- $name := include "artifactapi.name" . -}}
{{- $whole = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- if gt (len $whole) 45 -}}
{{- $whole = printf "%s-%s" ($whole | trunc 36 | trimSuffix "-") (sha256sum $whole | trunc 8) -}}
{{- end -}}
{{- $whole -}}
{{- end -}}

{{- define "artifactapi.isCluster" -}}
{{- if eq .Values.mode "cluster" }}true{{ end -}}
{{- end -}}

{{/* By what pods are selected, which never changes. Takes (dict "root" $ "component" …). */}}
{{- define "artifactapi.selector" -}}
app.kubernetes.io/name: {{ include "artifactapi.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object; the user's win over the chart's but for those that select. */}}
{{- define "artifactapi.labels" -}}
{{- $chart := printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" -}}
{{- $own := dict "app.kubernetes.io/part-of" "artifactapi" "app.kubernetes.io/version" .root.Chart.AppVersion "app.kubernetes.io/managed-by" .root.Release.Service "helm.sh/chart" $chart -}}
{{- merge (include "artifactapi.selector" . | fromYaml) .root.Values.commonLabels $own | toYaml -}}
{{- end -}}

{{/* Metadata of an object. Takes (dict "root" $ "component" … "suffix" … "labels" … "annotations" …). */}}
{{- define "artifactapi.metadata" -}}
name: {{ printf "%s%s" (include "artifactapi.fullname" .root) (ternary (printf "-%s" .suffix) "" (not (empty .suffix))) | quote }}
namespace: {{ .root.Release.Namespace | quote }}
labels:
  {{- merge (dict) (.labels | default dict) (include "artifactapi.labels" . | fromYaml) | toYaml | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The component that serves clients. */}}
{{- define "artifactapi.serving" -}}
{{- if include "artifactapi.isCluster" . }}proxy{{ else }}standalone{{ end -}}
{{- end -}}

{{/* The component that is the operator. */}}
{{- define "artifactapi.operating" -}}
{{- if include "artifactapi.isCluster" . }}operator{{ else }}standalone{{ end -}}
{{- end -}}

{{/* Takes (dict "root" $ "image" …). */}}
{{- define "artifactapi.image" -}}
{{- with .image.digest -}}
{{ $.image.repository }}@{{ . }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "artifactapi.operatorAccount" -}}
{{- .Values.operator.serviceAccount.name | default (ternary (printf "%s-operator" (include "artifactapi.fullname" .)) "default" .Values.operator.serviceAccount.create) -}}
{{- end -}}

{{- define "artifactapi.proxyAccount" -}}
{{- .Values.proxy.serviceAccount.name | default (ternary (printf "%s-proxy" (include "artifactapi.fullname" .)) "default" .Values.proxy.serviceAccount.create) -}}
{{- end -}}

{{- define "artifactapi.claim" -}}
{{- .Values.persistence.existingClaim | default (printf "%s-data" (include "artifactapi.fullname" .)) -}}
{{- end -}}

{{- define "artifactapi.scheme" -}}
{{- if .Values.tls.existingSecret }}https{{ else }}http{{ end -}}
{{- end -}}

{{- define "artifactapi.servicePort" -}}
{{- .Values.service.port | default (ternary 443 80 (not (empty .Values.tls.existingSecret))) -}}
{{- end -}}

{{/* How pods of the cluster reach the service. */}}
{{- define "artifactapi.internalURL" -}}
{{- $port := include "artifactapi.servicePort" . -}}
{{- $scheme := include "artifactapi.scheme" . -}}
{{- $usual := eq $port (ternary "443" "80" (eq $scheme "https")) -}}
{{ $scheme }}://{{ include "artifactapi.fullname" . }}.{{ .Release.Namespace }}.svc{{ if not $usual }}:{{ $port }}{{ end }}
{{- end -}}

{{- define "artifactapi.url" -}}
{{- .Values.publicURL | trimSuffix "/" | default (include "artifactapi.internalURL" .) -}}
{{- end -}}

{{/* Namespaces that are looked after, as the operator has them; empty for its own. */}}
{{- define "artifactapi.watched" -}}
{{- join "," .Values.watchNamespaces -}}
{{- end -}}

{{- define "artifactapi.replicas" -}}
{{- .Values.proxy.replicas | default 2 -}}
{{- end -}}

{{/* Fewest replicas of a cluster that there are meant to be. */}}
{{- define "artifactapi.fewest" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ include "artifactapi.replicas" . }}{{ end -}}
{{- end -}}

{{/* The Lease of the operators: one for each release. */}}
{{- define "artifactapi.lease" -}}
{{- printf "%s-operator" (include "artifactapi.fullname" .) -}}
{{- end -}}

{{/*
Seconds that a proxy has for requests under way: of its longest time to stop what is left without the pause before, which
standalone has not, and 5 for its own end.
*/}}
{{- define "artifactapi.drainSeconds" -}}
{{- $pause := ternary .Values.proxy.preStopSeconds 0 (not (empty (include "artifactapi.isCluster" .))) -}}
{{- sub (int (include "artifactapi.graceSeconds" .)) (add (int $pause) 5) -}}
{{- end -}}

{{/* Longest time to stop. Nobody answers while the one pod of standalone ends, so that it has less of it. */}}
{{- define "artifactapi.graceSeconds" -}}
{{- .Values.proxy.terminationGracePeriodSeconds | default (ternary 120 15 (not (empty (include "artifactapi.isCluster" .)))) | int -}}
{{- end -}}
