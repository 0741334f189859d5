{{/* Names, labels and references that several templates use. */}}

{{- define "artifactapi.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Room for the suffixes of components. */}}
{{- define "artifactapi.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "artifactapi.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "artifactapi.isCluster" -}}
{{- if eq .Values.mode "cluster" }}true{{ end -}}
{{- end -}}

{{/* By what pods are selected, which never changes. Takes (dict "root" $ "component" …). */}}
{{- define "artifactapi.selector" -}}
app.kubernetes.io/name: {{ include "artifactapi.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "artifactapi.labels" -}}
{{ include "artifactapi.selector" . }}
app.kubernetes.io/part-of: artifactapi
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object. Takes (dict "root" $ "component" … "suffix" … "labels" … "annotations" …). */}}
{{- define "artifactapi.metadata" -}}
name: {{ include "artifactapi.fullname" .root }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
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
