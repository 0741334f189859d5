{{/* How containers of a cluster find PostgreSQL, Redis and S3. Secrets come as files; what is none comes as a variable. */}}

{{/* One variable: what was said, or else a key of the Secret. Takes (dict "name" … "value" … "secret" … "key" … "optional" …). */}}
{{- define "artifactapi.fromSecret" -}}
- name: {{ .name }}
{{- if .value }}
  value: {{ .value | toString | quote }}
{{- else }}
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: {{ .key | quote }}, optional: {{ .optional }}}}
{{- end }}
{{- end -}}

{{- define "artifactapi.databaseEnv" -}}
{{- with .Values.database }}
{{- include "artifactapi.fromSecret" (dict "name" "DBHOST" "value" .host "secret" .existingSecret "key" .keys.host "optional" false) }}
{{ include "artifactapi.fromSecret" (dict "name" "DBPORT" "value" .port "secret" .existingSecret "key" .keys.port "optional" true) }}
{{ include "artifactapi.fromSecret" (dict "name" "DBNAME" "value" .name "secret" .existingSecret "key" .keys.name "optional" true) }}
{{ include "artifactapi.fromSecret" (dict "name" "DBUSER" "value" "" "secret" .existingSecret "key" .keys.username "optional" false) }}
- {name: DBPASS_FILE, value: /etc/artifactapi/secrets/database-password}
- {name: ARTIFACTAPI_DB_TLS, value: {{ .tls }}}
{{- if .ca.existingSecret }}
- {name: ARTIFACTAPI_DB_CA, value: /etc/artifactapi/secrets/database-ca.pem}
{{- end }}
{{- end }}
{{- end -}}

{{/* The key of what is sealed in it. */}}
{{- define "artifactapi.sealedDatabaseEnv" -}}
{{ include "artifactapi.databaseEnv" . }}
- {name: ARTIFACTAPI_ENCRYPTION_KEY_FILE, value: /etc/artifactapi/secrets/encryption-key}
{{- end -}}

{{- define "artifactapi.s3Env" -}}
- {name: MINIO_ENDPOINT, value: {{ .Values.s3.endpoint | quote }}}
- {name: MINIO_BUCKET, value: {{ .Values.s3.bucket | quote }}}
- {name: MINIO_REGION, value: {{ .Values.s3.region | quote }}}
- {name: MINIO_SECURE, value: {{ .Values.s3.secure | quote }}}
- {name: MINIO_ACCESS_KEY_FILE, value: /etc/artifactapi/secrets/s3-access-key}
- {name: MINIO_SECRET_KEY_FILE, value: /etc/artifactapi/secrets/s3-secret-key}
{{- with .Values.s3.publicEndpoint }}
- {name: ARTIFACTAPI_S3_PUBLIC_ENDPOINT, value: {{ . | quote }}}
{{- end }}
{{- end -}}

{{- define "artifactapi.redisEnv" -}}
- {name: REDIS_URL_FILE, value: /etc/artifactapi/secrets/redis-url}
{{- if .Values.redis.ca.existingSecret }}
- {name: ARTIFACTAPI_REDIS_CA, value: /etc/artifactapi/secrets/redis-ca.pem}
{{- end }}
{{- end -}}

{{/* One key of a Secret as a file. Takes (dict "secret" … "key" … "path" …). */}}
{{- define "artifactapi.secretFile" -}}
- secret:
    name: {{ .secret | quote }}
    items: [{key: {{ .key | quote }}, path: {{ .path }}}]
{{- end -}}

{{/*
Takes (dict "root" $ "for" …): a proxy has the secrets of all stores, the operator those of the database and of what is
sealed in it, and the migration those of the database alone.
*/}}
{{- define "artifactapi.secretsVolume" -}}
{{- $values := .root.Values -}}
- name: secrets
  projected:
    defaultMode: 288 # 0440, which not every reader of YAML takes for a number
    sources:
      {{- include "artifactapi.secretFile" (dict "secret" $values.database.existingSecret "key" $values.database.keys.password "path" "database-password") | nindent 6 }}
      {{- with $values.database.ca.existingSecret }}
      {{- include "artifactapi.secretFile" (dict "secret" . "key" $values.database.ca.key "path" "database-ca.pem") | nindent 6 }}
      {{- end }}
      {{- if ne .for "migration" }}
      {{- include "artifactapi.secretFile" (dict "secret" $values.encryption.existingSecret "key" $values.encryption.key "path" "encryption-key") | nindent 6 }}
      {{- end }}
      {{- if eq .for "proxy" }}
      {{- include "artifactapi.secretFile" (dict "secret" $values.redis.existingSecret "key" $values.redis.keys.url "path" "redis-url") | nindent 6 }}
      {{- with $values.redis.ca.existingSecret }}
      {{- include "artifactapi.secretFile" (dict "secret" . "key" $values.redis.ca.key "path" "redis-ca.pem") | nindent 6 }}
      {{- end }}
      {{- include "artifactapi.secretFile" (dict "secret" $values.s3.existingSecret "key" $values.s3.keys.accessKey "path" "s3-access-key") | nindent 6 }}
      {{- include "artifactapi.secretFile" (dict "secret" $values.s3.existingSecret "key" $values.s3.keys.secretKey "path" "s3-secret-key") | nindent 6 }}
      {{- with $values.peers.existingSecret }}
      {{- include "artifactapi.secretFile" (dict "secret" . "key" $values.peers.key "path" "peer-key") | nindent 6 }}
      {{- end }}
      {{- end }}
{{- end -}}

{{- define "artifactapi.secretsMount" -}}
- {name: secrets, mountPath: /etc/artifactapi/secrets, readOnly: true}
{{- end -}}
