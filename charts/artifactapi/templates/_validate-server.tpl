{{/*
What only a look at the cluster shows, so that it is refused by `helm install` and `helm upgrade`, and not by those who only
render: what these values would take away for ever, or leave behind for ever.
*/}}

{{- define "artifactapi.validate.server" -}}
{{- $errors := list -}}
{{- if .Release.IsUpgrade -}}
{{- $errors = concat $errors (include "artifactapi.validate.claims" . | fromYamlArray) (include "artifactapi.validate.definitions" . | fromYamlArray) -}}
{{- end -}}
{{- if and .Values.crds.enabled (not .Values.crds.keep) -}}
{{- $held := list -}}
{{- range $kind := list "Local" "Remote" -}}
{{- if $.Capabilities.APIVersions.Has (printf "artifactapi.io/v1alpha1/%s" $kind) -}}
{{- range (lookup "artifactapi.io/v1alpha1" $kind "" "").items -}}
{{- if has "artifactapi.io/purge" (.metadata.finalizers | default list) -}}
{{- $held = append $held (printf "%s %s/%s" $kind .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if $held -}}
{{- $errors = append $errors (printf "crds.keep: false deletes the definitions after the operator is gone, and what has deletionPolicy: Purge then waits for it for ever, the definitions as well: set crds.keep: true, or delete these before: %s" (join ", " $held)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}

{{/* Claims that the last revision had, this one has not, and nothing keeps. */}}
{{- define "artifactapi.validate.claims" -}}
{{- $errors := list -}}
{{- $why := "" -}}
{{- if include "artifactapi.isCluster" . -}}
{{- $why = "mode: cluster" -}}
{{- else if not .Values.persistence.enabled -}}
{{- $why = "persistence.enabled: false" -}}
{{- else if .Values.persistence.existingClaim -}}
{{- $why = "persistence.existingClaim" -}}
{{- end -}}
{{- $stays := ternary "" (include "artifactapi.claim" .) (not (empty $why)) -}}
{{- range (lookup "v1" "PersistentVolumeClaim" .Release.Namespace "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $ours := and (eq (get $labels "app.kubernetes.io/instance") $.Release.Name) (eq (get $labels "app.kubernetes.io/component") "standalone") (hasPrefix (printf "%s-" $.Chart.Name) (get $labels "helm.sh/chart")) -}}
{{- if and $ours (ne .metadata.name $stays) (ne (get (.metadata.annotations | default dict) "helm.sh/resource-policy") "keep") -}}
{{- $errors = append $errors (printf "%s takes the claim %s away, and with it everything that was pushed to it: run `helm upgrade` with persistence.keep: true, and otherwise as it was, before; or, if nothing of it is wanted, `kubectl annotate -n %s pvc %s helm.sh/resource-policy=keep` and delete it afterwards" ($why | default "another name (fullnameOverride, nameOverride)") .metadata.name $.Release.Namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}

{{/*
Definitions that the last revision had without keeping them, and this one has not. Who may not look at definitions may do
without them, and lookup knows no "perhaps": so a Service bears witness.
*/}}
{{- define "artifactapi.validate.definitions" -}}
{{- $errors := list -}}
{{- if not .Values.crds.enabled -}}
{{- range (lookup "v1" "Service" .Release.Namespace "").items -}}
{{- if and (eq (get (.metadata.labels | default dict) "app.kubernetes.io/instance") $.Release.Name) (hasKey (.metadata.annotations | default dict) "artifactapi.io/crds") -}}
{{- $errors = append $errors "crds.enabled: false takes the definitions away, which this release has with crds.keep: false, and with them all Remotes, Virtuals, Locals and Robots of the cluster: run `helm upgrade` with crds.enabled: true and crds.keep: true before" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}
