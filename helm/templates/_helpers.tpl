{{- define "fanout.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Leaves room for what the StatefulSet and its pods add to it. */}}
{{- define "fanout.fullname" -}}
{{- $name := include "fanout.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $both .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanout.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fanout.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "fanout.labels" -}}
{{- with .Values.commonLabels }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "fanout.selectorLabels" . }}
{{- end -}}

{{- define "fanout.serviceAccountName" -}}
{{- default (ternary (include "fanout.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "fanout.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{/* natsTlsCaFile -> NATS_TLS_CA_FILE, as the service does it. */}}
{{- define "fanout.variable" -}}
{{- regexReplaceAll "([a-z0-9])([A-Z])" . "${1}_${2}" | upper -}}
{{- end -}}

{{/* Numbers as JSON writes them: Go writes 1000000 as 1e+06. */}}
{{- define "fanout.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* Templates pass everything but text as JSON, which is parsed much faster than YAML. */}}

{{/* The enabled sinks, by id. If there is none, the default sink of the service. */}}
{{- define "fanout.sinks" -}}
{{- $on := dict -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled }}{{ $_ := set $on $id $sink }}{{ end -}}
{{- end -}}
{{- if not $on }}{{ $_ := set $on "sqlite" (default dict .Values.sinks.sqlite) }}{{ end -}}
{{- toJson $on -}}
{{- end -}}

{{/* Whether a sink writes files, which are in /data. */}}
{{- define "fanout.hasFiles" -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- if eq (default $id $sink.kind) "sqlite" }}true{{ end -}}
{{- if and (eq (default $id $sink.kind) "parquet") (hasPrefix "file:" (default "" (default dict $sink.settings).url)) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- define "fanout.secretsPath" -}}/etc/metrics-fanout/secrets{{- end -}}

{{/*
Values that come from files. The key is the variable that names the file; the value is a text, {secretName, key} or
{configMapName, key}. For a secret NAME the variable is NAME_FILE. A setting that names a file already ends that way.
*/}}
{{- define "fanout.mounted" -}}
{{- $all := dict -}}
{{- range $key, $from := .Values.secrets }}{{ $_ := set $all (printf "%s_FILE" (include "fanout.variable" $key)) $from }}{{ end -}}
{{- range $key, $from := .Values.files }}{{ $_ := set $all (include "fanout.variable" $key) $from }}{{ end -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- $prefix := printf "SINK_%s_" (upper $id) -}}
{{- range $key, $from := $sink.secrets }}{{ $_ := set $all (printf "%s%s_FILE" $prefix (include "fanout.variable" $key)) $from }}{{ end -}}
{{- range $key, $from := $sink.files }}{{ $_ := set $all (printf "%s%s" $prefix (include "fanout.variable" $key)) $from }}{{ end -}}
{{- end -}}
{{- toJson $all -}}
{{- end -}}

{{/* The settings that are not secret, as variables. */}}
{{- define "fanout.environment" -}}
{{- $env := dict "HTTP_PORT" (include "fanout.text" .Values.service.port) "STOP_TIMEOUT" (printf "%ss" (include "fanout.text" .Values.stopTimeoutSeconds)) -}}
{{- $_ := set $env "CONTROL_SOCKET" "/tmp/metrics-fanout.sock" -}}
{{- if .Values.profiles.enabled }}{{ $_ := set $env "CONTROL_PROFILE_DIR" "/profiles" }}{{ end -}}
{{- if and (include "fanout.isCore" .) (gt (int .Values.replicas) 1) }}{{ $_ := set $env "METRICS_QUEUE_GROUP" (include "fanout.fullname" .) }}{{ end -}}
{{- /* A secret natsUrl takes precedence over the default one. */}}
{{- range $key, $value := .Values.settings -}}
{{- if not (hasKey (default dict $.Values.secrets) $key) }}{{ $_ := set $env (include "fanout.variable" $key) (include "fanout.text" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- $prefix := printf "SINK_%s_" (upper $id) -}}
{{- $_ := set $env (print $prefix "ENABLED") "true" -}}
{{- with $sink.kind }}{{ $_ := set $env (print $prefix "KIND") . }}{{ end -}}
{{- if eq (default $id $sink.kind) "sqlite" }}{{ $_ := set $env (print $prefix "PATH") (printf "/data/%s.db" $id) }}{{ end -}}
{{- range $key, $value := $sink.settings }}{{ $_ := set $env (print $prefix (include "fanout.variable" $key)) (include "fanout.text" $value) }}{{ end -}}
{{- end -}}
{{- range $variable, $from := fromJson (include "fanout.mounted" .) }}{{ $_ := set $env $variable (printf "%s/%s" (include "fanout.secretsPath" $) $variable) }}{{ end -}}
{{- toJson $env -}}
{{- end -}}

{{/* Files whose content is in the values: the chart's own Secret contains it. */}}
{{- define "fanout.ownSecrets" -}}
{{- $own := dict -}}
{{- range $variable, $from := fromJson (include "fanout.mounted" .) -}}
{{- if kindIs "string" $from }}{{ $_ := set $own $variable (b64enc $from) }}{{ end -}}
{{- end -}}
{{- toJson $own -}}
{{- end -}}

{{- define "fanout.isCore" -}}
{{- if eq (default "jetstream" .Values.settings.metricsSource) "core" }}true{{ end -}}
{{- end -}}

{{/*
Fails if a setting is a URL with a user or a password: settings are in a ConfigMap. The schema leaves this to the
template, because its message would repeat the URL. Arguments: the name of the values that hold the setting, its key,
its value.
*/}}
{{- define "fanout.checkUserInfo" -}}
{{- $text := include "fanout.text" .value -}}
{{- $isAddress := regexMatch "(?i)(url|endpoint)$" .key -}}
{{- if or (regexMatch "[A-Za-z][A-Za-z0-9+.-]*:[/\\\\]{2}[^/?#\\s]*@" $text) (and $isAddress (regexMatch "(^|,)\\s*([A-Za-z][A-Za-z0-9+.-]*:)?[/\\\\]*[^/?#,]*@" $text)) -}}
{{- fail (printf "%ssettings.%s: the URL has a user or a password, and everybody who may read the ConfigMap would see it. Move the setting to %ssecrets.%s." .path .key .path .key) -}}
{{- end -}}
{{- end -}}

{{/* The bytes of a quantity of Kubernetes (1Gi) or of a size of ours (64MB, 1.5GiB). */}}
{{- define "fanout.bytes" -}}
{{- $text := include "fanout.text" . -}}
{{- $unit := regexFind "[A-Za-z]*$" $text | upper | trimSuffix "B" -}}
{{- $units := dict "" 1 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "KI" 1024 "MI" 1048576 "GI" 1073741824 "TI" 1099511627776 -}}
{{- mulf (float64 (regexFind "^[0-9.]+" $text)) (get $units $unit | default 1) | toJson -}}
{{- end -}}

{{/* Fails if MAX_SERIES_BYTES does not fit the memory limit. The numbers are those of src/config/memory.ts. */}}
{{- define "fanout.checkMemory" -}}
{{- $limit := dig "limits" "memory" "" (default dict .Values.resources) -}}
{{- if $limit -}}
{{- $budget := default "48MB" .Values.settings.maxSeriesBytes -}}
{{- $sinks := len (fromJson (include "fanout.sinks" .)) -}}
{{- $recent := include "fanout.bytes" (default "64MB" .Values.settings.recentBytes) | float64 -}}
{{- $needed := addf (mulf 14 (include "fanout.bytes" $budget | float64)) $recent 125000000 (mulf 45000000 $sinks) -}}
{{- if gt $needed (include "fanout.bytes" $limit | float64) -}}
{{- fail (printf "settings.maxSeriesBytes: with %s, a pod may need %.0f MB, and resources.limits.memory is %s. Raise the limit, or lower maxSeriesBytes." $budget (divf $needed 1000000) (include "fanout.text" $limit)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Checks that a schema cannot express. */}}
{{- define "fanout.check" -}}
{{- if regexMatch "^(127\\.|::1$|localhost$)" (default "" .Values.settings.httpHost) }}{{ fail "settings.httpHost: the kubelet asks /livez from outside the pod, and would kill the pod. Remove the setting; networkPolicy limits who else can reach the port." }}{{ end -}}
{{- include "fanout.checkMemory" . -}}
{{- if .Values.standby -}}
{{- if include "fanout.isCore" . }}{{ fail "standby: in core mode every instance has its own messages. Raise replicas instead." }}{{ end -}}
{{- if include "fanout.hasFiles" . }}{{ fail "standby: a sqlite sink writes to a file in its pod, and a parquet sink with a folder to files there, but a slice has one checkpoint, so each of its pods would miss windows. Disable these sinks, or set standby to 0." }}{{ end -}}
{{- end -}}
{{- range $key, $value := .Values.settings -}}
{{- if not (hasKey (default dict $.Values.secrets) $key) }}{{ include "fanout.checkUserInfo" (dict "path" "" "key" $key "value" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- range $key, $value := $sink.settings }}{{ include "fanout.checkUserInfo" (dict "path" (printf "sinks.%s." $id) "key" $key "value" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled $sink.secrets }}{{ range $key, $_ := $sink.secrets -}}
{{- if hasKey (default dict $sink.settings) $key }}{{ fail (printf "sinks.%s: settings.%s and secrets.%s are both set. Set only one of them." $id $key $key) }}{{ end -}}
{{- end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Shared by the pods and the test. */}}
{{- define "fanout.podSpec" -}}
serviceAccountName: {{ include "fanout.serviceAccountName" . }}
automountServiceAccountToken: false
# With links, a Service called `http` or `sink-a` in the namespace would set HTTP_PORT or SINK_A_PORT.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "fanout.container" -}}
image: {{ include "fanout.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
envFrom:
  - configMapRef:
      name: {{ include "fanout.fullname" . }}
  {{- with .Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "fanout.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if fromJson (include "fanout.mounted" .) }}
- name: secrets
  mountPath: {{ include "fanout.secretsPath" . }}
  readOnly: true
{{- end }}
{{- if include "fanout.hasFiles" . }}
- name: data
  mountPath: /data
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fanout.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- with fromJson (include "fanout.mounted" .) }}
- name: secrets
  projected:
    # 0440, which YAML 1.1 and 1.2 read differently.
    defaultMode: 288
    sources:
      {{- if fromJson (include "fanout.ownSecrets" $) }}
      - secret:
          name: {{ include "fanout.fullname" $ }}
      {{- end }}
      {{- range $variable, $from := . }}
      {{- if not (kindIs "string" $from) }}
      - {{ ternary "secret" "configMap" (hasKey $from "secretName") }}:
          name: {{ default $from.configMapName $from.secretName }}
          items:
            - key: {{ $from.key }}
              path: {{ $variable }}
      {{- end }}
      {{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}
