{{/*
What the schema of the values cannot say: which of them belong together. Everything that is wrong is told at once.
*/}}

{{- define "artifactapi.validate" -}}
{{- /* Nothing else can be said of what is not there. */ -}}
{{- $empty := include "artifactapi.validate.empty" . | fromYamlArray -}}
{{- if $empty -}}
{{- printf "\n\nThese have nothing after their colon, which takes the chart's own value away: %s.\nLeave them out, or say what they are.\n" (join ", " $empty) | fail -}}
{{- end -}}
{{- $errors := list -}}
{{- range list "mode" "contradictions" "names" "access" "amounts" "server" -}}
{{- $errors = concat $errors (include (printf "artifactapi.validate.%s" .) $ | fromYamlArray) -}}
{{- end -}}
{{- if $errors -}}
{{- printf "\n\nThe values do not fit together:\n* %s\n" (join "\n* " $errors) | fail -}}
{{- end -}}
{{- end -}}

{{/* Values and sections that are null where the chart has something. */}}
{{- define "artifactapi.validate.empty" -}}
{{- $empty := list -}}
{{- range $path := .Files.Lines "files/values.txt" -}}
{{- $at := $.Values -}}
{{- $walked := list -}}
{{- range $name := splitList "." $path -}}
{{- if and $name (not (kindIs "invalid" $at)) -}}
{{- $at = index $at $name -}}
{{- $walked = append $walked $name -}}
{{- if kindIs "invalid" $at -}}
{{- $empty = append $empty (join "." $walked) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $empty | uniq | toYaml -}}
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
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.egress.enabled (not .Values.networkPolicy.egress.stores) -}}
{{- $errors = append $errors "networkPolicy.egress.enabled would cut replicas off from PostgreSQL, Redis and S3: say in networkPolicy.egress.stores where they are" -}}
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
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.egress.enabled -}}
{{- range .Values.networkPolicy.egress.kubernetesAPI -}}
{{- if not .to -}}
{{- $errors = append $errors "networkPolicy.egress.kubernetesAPI: in mode: standalone the proxy is in the operator's pod, and a rule without `to` lets it reach every address on these ports: name by `to` where the API server is, as `- to: [{ipBlock: {cidr: 192.0.2.1/32}}]` with `ports` (kubectl get endpointslices -n default kubernetes)" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.persistence.existingClaim (not .Values.persistence.enabled) -}}
{{- $errors = append $errors "persistence.existingClaim is set, and persistence.enabled is false: one of them is meant" -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}

{{/* What takes the effect of something else away. */}}
{{- define "artifactapi.validate.contradictions" -}}
{{- $errors := list -}}
{{- $pause := ternary (int .Values.proxy.preStopSeconds) 0 (not (empty (include "artifactapi.isCluster" .))) -}}
{{- if lt (int (include "artifactapi.drainSeconds" .)) 1 -}}
{{- $errors = append $errors (printf "proxy.terminationGracePeriodSeconds: %d leaves nothing for requests under way: the pause before (proxy.preStopSeconds in mode: cluster) takes %d and the proxy's own end 5, so that it must be %d or more" (int (include "artifactapi.graceSeconds" .)) $pause (add $pause 6)) -}}
{{- end -}}
{{- if include "artifactapi.isCluster" . -}}
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
{{- $budget := .Values.podDisruptionBudget -}}
{{- $fewest := int (include "artifactapi.fewest" .) -}}
{{- if and (not (kindIs "invalid" $budget.minAvailable)) (not (kindIs "invalid" $budget.maxUnavailable)) -}}
{{- $errors = append $errors "podDisruptionBudget.minAvailable and podDisruptionBudget.maxUnavailable are both set; one of them is enough" -}}
{{- else if and $budget.enabled (not (kindIs "invalid" $budget.maxUnavailable)) (has (toString $budget.maxUnavailable) (list "0" "0%")) -}}
{{- $errors = append $errors "podDisruptionBudget.maxUnavailable: 0 lets no node be emptied: set 1 or more, or podDisruptionBudget.enabled: false" -}}
{{- else if and $budget.enabled (not (kindIs "invalid" $budget.minAvailable)) -}}
{{- $given := toString $budget.minAvailable -}}
{{- $stay := float64 (trimSuffix "%" $given) -}}
{{- if hasSuffix "%" $given }}{{ $stay = divf (mulf $stay $fewest) 100 | ceil }}{{ end -}}
{{- if ge (int $stay) $fewest -}}
{{- $errors = append $errors (printf "podDisruptionBudget.minAvailable: %s of %d replicas is all of them, so that no node could be emptied: set less, or more replicas" $given $fewest) -}}
{{- end -}}
{{- end -}}
{{- if eq (include "artifactapi.operatorAccount" .) (include "artifactapi.proxyAccount" .) -}}
{{- $errors = append $errors (printf "operator.serviceAccount and proxy.serviceAccount are both %s, so that proxies would have the operator's rights: give them different names" (include "artifactapi.operatorAccount" .)) -}}
{{- end -}}
{{- end -}}
{{- if and .Values.networkPolicy.egress.enabled (not .Values.networkPolicy.enabled) -}}
{{- $errors = append $errors "networkPolicy.egress.enabled closes nothing while networkPolicy.enabled is false: set that, or leave it out" -}}
{{- end -}}
{{- if not (or .Values.operator.serviceAccount.create .Values.operator.serviceAccount.name) -}}
{{- $errors = append $errors "operator.serviceAccount.create is false, and the operator's rights would go to the account that every pod of the namespace has: name the operator's account in operator.serviceAccount.name" -}}
{{- end -}}
{{- if and .Values.nodePort.enabled .Values.service.nodePort (eq (int .Values.nodePort.port) (int .Values.service.nodePort)) -}}
{{- $errors = append $errors (printf "nodePort.port and service.nodePort are both %d, and a port of the nodes belongs to one Service: change one, or leave nodePort.enabled out, since service.nodePort does the same" (int .Values.nodePort.port)) -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}

{{/* Names and labels that objects could not have. */}}
{{- define "artifactapi.validate.names" -}}
{{- $errors := list -}}
{{- $name := include "artifactapi.fullname" . -}}
{{- if not (regexMatch "^[a-z]([a-z0-9-]*[a-z0-9])?$" $name) -}}
{{- $errors = append $errors (printf "%s can be no name of a Service, which has letters, digits and hyphens and begins with a letter: set fullnameOverride, or call the release otherwise" $name) -}}
{{- end -}}
{{- if not (regexMatch "^([a-z0-9]([a-z0-9-]*[a-z0-9])?)?$" .Values.nameOverride) -}}
{{- $errors = append $errors (printf "nameOverride: %s can be no part of a name: it has small letters, digits and hyphens, and begins and ends with a letter or digit" .Values.nameOverride) -}}
{{- end -}}
{{- $selecting := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- range $section, $labels := dict "commonLabels" .Values.commonLabels "proxy.podLabels" .Values.proxy.podLabels "operator.podLabels" .Values.operator.podLabels -}}
{{- range $label := $selecting -}}
{{- if hasKey $labels $label -}}
{{- $errors = append $errors (printf "%s: %s is by what the chart's Services and Deployments find their pods: use another label" $section $label) -}}
{{- end -}}
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
{{- $path := regexReplaceAll "^https?://[^/]*" .Values.publicURL "" | trimSuffix "/" -}}
{{- if and $path (or .Values.ingress.enabled .Values.httpRoute.enabled) -}}
{{- $errors = append $errors (printf "publicURL: %s is below the path %s, and ingress and httpRoute of this chart pass paths on as they are, which the service answers with 404: leave the path out, or make in their place one of your own (extraObjects) that takes it away, and that sends /v2/ here as well, in front of which docker knows no path" .Values.publicURL $path) -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- $errors = append $errors "ingress.enabled is set, and ingress.hosts is empty: name a host, or requests for every host would come here" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) -}}
{{- $errors = append $errors "httpRoute.enabled is set, and httpRoute.parentRefs is empty: name the gateway" -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.hostnames) -}}
{{- $errors = append $errors "httpRoute.enabled is set, and httpRoute.hostnames is empty: name a host, or requests for every host of the gateway would come here" -}}
{{- end -}}
{{- $hosts := dict "ingress.hosts" .Values.ingress.hosts "httpRoute.hostnames" .Values.httpRoute.hostnames -}}
{{- range .Values.ingress.tls }}{{ $_ := set $hosts "ingress.tls" (concat (index $hosts "ingress.tls" | default list) (.hosts | default list)) }}{{ end -}}
{{- range $section, $names := $hosts -}}
{{- range $names -}}
{{- if not (regexMatch "^(\\*\\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$" .) -}}
{{- $errors = append $errors (printf "%s: %s is no host as packages.example.com or *.example.com: small letters, and neither port nor path" $section .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.database.ca.existingSecret (ne .Values.database.tls "verify") -}}
{{- $errors = append $errors (printf "database.ca.existingSecret is of use with database.tls: verify only, and that is %s" .Values.database.tls) -}}
{{- end -}}
{{- if and .Values.service.nodePort (not (has .Values.service.type (list "NodePort" "LoadBalancer"))) -}}
{{- $errors = append $errors (printf "service.nodePort needs service.type: NodePort or LoadBalancer, and that is %s" .Values.service.type) -}}
{{- end -}}
{{- if and .Values.service.externalTrafficPolicy (not (has .Values.service.type (list "NodePort" "LoadBalancer"))) -}}
{{- $errors = append $errors (printf "service.externalTrafficPolicy needs service.type: NodePort or LoadBalancer, and that is %s" .Values.service.type) -}}
{{- end -}}
{{- range $name, $value := dict "loadBalancerClass" .Values.service.loadBalancerClass "loadBalancerSourceRanges" .Values.service.loadBalancerSourceRanges -}}
{{- if and $value (ne $.Values.service.type "LoadBalancer") -}}
{{- $errors = append $errors (printf "service.%s needs service.type: LoadBalancer, and that is %s" $name $.Values.service.type) -}}
{{- end -}}
{{- end -}}
{{- range .Values.operator.ceilings.mirrorFor -}}
{{- if and (contains "*" .) (ne . "*") -}}
{{- $errors = append $errors (printf "operator.ceilings.mirrorFor: %s is no host; * stands for any" .) -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}
