{{/*
What the schema of the values cannot say: which of them belong together. Everything that is wrong is told at once.
*/}}

{{- define "artifactapi.validate" -}}
{{- $errors := concat (include "artifactapi.validate.mode" . | fromYamlArray) (include "artifactapi.validate.access" . | fromYamlArray) -}}
{{- if $errors -}}
{{- printf "\n\nThe values do not fit together:\n* %s\n" (join "\n* " $errors) | fail -}}
{{- end -}}
{{- end -}}

{{/* Each mode has what it needs, and nothing that means the other one. */}}
{{- define "artifactapi.validate.mode" -}}
{{- $errors := list -}}
{{- $services := dict "database.existingSecret" .Values.database.existingSecret "redis.existingSecret" .Values.redis.existingSecret "s3.existingSecret" .Values.s3.existingSecret "s3.endpoint" .Values.s3.endpoint -}}
{{- $missing := list -}}
{{- $given := list -}}
{{- range $name, $value := $services -}}
{{- if $value }}{{ $given = append $given $name }}{{ else }}{{ $missing = append $missing $name }}{{ end -}}
{{- end -}}
{{- if include "artifactapi.isCluster" . -}}
{{- if not .Values.encryption.existingSecret }}{{ $missing = append $missing "encryption.existingSecret" }}{{ end -}}
{{- if $missing -}}
{{- $errors = append $errors (printf "mode: cluster keeps its data in PostgreSQL, Redis and S3, and credentials under a key: set %s (the README of the chart shows how), or use mode: standalone, which needs none of them" (join ", " (sortAlpha $missing))) -}}
{{- end -}}
{{- if and .Values.proxy.replicas (lt (int .Values.proxy.replicas) 2) -}}
{{- $errors = append $errors "proxy.replicas: mode: cluster has 2 replicas or more, so that one may go; a single one is mode: standalone" -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- if lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas) -}}
{{- $errors = append $errors "autoscaling.maxReplicas is less than autoscaling.minReplicas" -}}
{{- end -}}
{{- if .Values.proxy.replicas -}}
{{- $errors = append $errors "proxy.replicas and autoscaling.enabled contradict each other: with autoscaling set autoscaling.minReplicas" -}}
{{- end -}}
{{- if not ((.Values.proxy.resources).requests).cpu -}}
{{- $errors = append $errors "autoscaling.targetCPUUtilizationPercentage is in percent of proxy.resources.requests.cpu, which is not set" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.egress.enabled (not .Values.networkPolicy.egress.stores) -}}
{{- $errors = append $errors "networkPolicy.egress.enabled would cut replicas off from PostgreSQL, Redis and S3: say in networkPolicy.egress.stores where they are" -}}
{{- end -}}
{{- $pdb := .Values.podDisruptionBudget -}}
{{- if and (not (kindIs "invalid" $pdb.minAvailable)) (not (kindIs "invalid" $pdb.maxUnavailable)) -}}
{{- $errors = append $errors "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set; one of them is enough" -}}
{{- end -}}
{{- else -}}
{{- if $given -}}
{{- $errors = append $errors (printf "%s: PostgreSQL, Redis and S3 are of use in mode: cluster only; set that, or leave them out" (join ", " $given)) -}}
{{- end -}}
{{- if gt (int (.Values.proxy.replicas | default 1)) 1 -}}
{{- $errors = append $errors "proxy.replicas: mode: standalone is one replica, since nobody else may use its volume; more need mode: cluster" -}}
{{- end -}}
{{- if gt (int (.Values.operator.replicas | default 1)) 1 -}}
{{- $errors = append $errors "operator.replicas: mode: standalone is one pod; more operators need mode: cluster" -}}
{{- end -}}
{{- if .Values.autoscaling.enabled -}}
{{- $errors = append $errors "autoscaling.enabled: mode: standalone is one replica; more need mode: cluster" -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (not .Values.persistence.enabled) -}}
{{- $errors = append $errors "persistence.existingClaim is set, and persistence.enabled is false: one of them is meant" -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}

{{/* How it is reached, and by whom it is configured. */}}
{{- define "artifactapi.validate.access" -}}
{{- $errors := list -}}
{{- if and (has "*" .Values.watchNamespaces) (gt (len .Values.watchNamespaces) 1) -}}
{{- $errors = append $errors "watchNamespaces: * stands for all namespaces: give it alone" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $errors = append $errors "ingress.enabled is set, and ingress.hosts is empty: name a host, or requests for every host would come here" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $errors = append $errors "httpRoute.enabled is set, and httpRoute.parentRefs is empty: name the gateway" -}}
{{- end -}}
{{- if and .Values.database.ca.existingSecret (ne .Values.database.tls "verify") -}}
{{- $errors = append $errors (printf "database.ca.existingSecret is of use with database.tls: verify only, and that is %s" .Values.database.tls) -}}
{{- end -}}
{{- if and .Values.service.nodePort (not (has .Values.service.type (list "NodePort" "LoadBalancer"))) -}}
{{- $errors = append $errors (printf "service.nodePort needs service.type: NodePort or LoadBalancer, and that is %s" .Values.service.type) -}}
{{- end -}}
{{- range .Values.operator.ceilings.mirrorFor -}}
{{- if and (contains "*" .) (ne . "*") -}}
{{- $errors = append $errors (printf "operator.ceilings.mirrorFor: %s is no host; * stands for any" .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}
