{{/* Amounts, times and networks that Kubernetes would take and the programs, or the API server, would not. */}}

{{/* Bytes of a quantity as 10Gi. */}}
{{- define "artifactapi.bytes" -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- $factors := dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (float64 (trimSuffix $unit .)) (get $factors $unit) -}}
{{- end -}}

{{/* Seconds of a duration as 1h30m. */}}
{{- define "artifactapi.seconds" -}}
{{- $factors := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 -}}
{{- $sum := 0.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" . -1 -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $sum = addf $sum (mulf (float64 (trimSuffix $unit .)) (get $factors $unit)) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{- define "artifactapi.validate.amounts" -}}
{{- $errors := list -}}
{{- $cache := .Values.proxy.cache -}}
{{- if not (and (regexMatch "^0*[1-9][0-9]*(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$" $cache.size) (lt (float64 (include "artifactapi.bytes" $cache.size)) 9223372036854775808.0)) -}}
{{- $errors = append $errors (printf "proxy.cache.size: %s is no amount that the proxy takes: a whole number above 0, alone or with k, M, G, T, P, Ki, Mi, Gi, Ti or Pi, as 10Gi" $cache.size) -}}
{{- else if and $cache.ephemeralVolume.enabled (lt (float64 (include "artifactapi.bytes" $cache.ephemeralVolume.size)) (float64 (include "artifactapi.bytes" $cache.size))) -}}
{{- $errors = append $errors (printf "proxy.cache.ephemeralVolume.size: %s is less than proxy.cache.size, which is %s and lies on it" $cache.ephemeralVolume.size $cache.size) -}}
{{- end -}}
{{- $limit := $cache.limit | toString | default "0" | include "artifactapi.bytes" | float64 -}}
{{- if and (gt $limit 0.0) (lt $limit (float64 (include "artifactapi.bytes" $cache.size))) -}}
{{- $errors = append $errors (printf "proxy.cache.limit: %s is less than proxy.cache.size, which is %s, so that every replica would be evicted as soon as its cache is full: say more, or 0 for none" $cache.limit $cache.size) -}}
{{- end -}}
{{- range $name, $value := dict "request" $cache.request "limit" $cache.limit -}}
{{- if and (toString $value) $cache.ephemeralVolume.enabled -}}
{{- $errors = append $errors (printf "proxy.cache.%s concerns the node's own disk, and proxy.cache.ephemeralVolume.enabled puts the cache elsewhere: leave one of them out" $name) -}}
{{- end -}}
{{- end -}}
{{- $least := dict "operator.resync" 1.0 "operator.nameGrace" 1.0 "collection.interval" 0.001 "collection.grace" 0.0 -}}
{{- $words := dict "operator.resync" "1s" "operator.nameGrace" "1s" "collection.interval" "1ms" "collection.grace" "0s" -}}
{{- range $name, $text := dict "operator.resync" .Values.operator.resync "operator.nameGrace" .Values.operator.nameGrace "collection.interval" .Values.collection.interval "collection.grace" .Values.collection.grace -}}
{{- $seconds := float64 (include "artifactapi.seconds" $text) -}}
{{- if or (lt $seconds (get $least $name)) (gt $seconds 315360000.0) -}}
{{- $errors = append $errors (printf "%s: %s is not between %s and 87600h" $name $text (get $words $name)) -}}
{{- end -}}
{{- end -}}
{{- if contains "." .Values.metrics.serviceMonitor.interval -}}
{{- $errors = append $errors (printf "metrics.serviceMonitor.interval: %s: Prometheus takes whole numbers alone, as 1m30s" .Values.metrics.serviceMonitor.interval) -}}
{{- end -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" -}}
{{- $four := printf "^(%s\\.){3}%s/([0-9]|[12][0-9]|3[0-2])$" $byte $byte -}}
{{- $six := "^[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8])$" -}}
{{- range $name, $networks := dict "trustedProxies" .Values.trustedProxies "operator.ceilings.allowCIDRs" .Values.operator.ceilings.allowCIDRs "service.loadBalancerSourceRanges" .Values.service.loadBalancerSourceRanges -}}
{{- range $networks -}}
{{- if not (or (regexMatch $four .) (regexMatch $six .)) -}}
{{- $errors = append $errors (printf "%s: %s is no network as 10.0.0.0/8 or fd00::/8" $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $errors -}}
{{- end -}}
