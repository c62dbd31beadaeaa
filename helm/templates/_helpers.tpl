{{- define "fanout.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Leaves room for what StatefulSet and pod add to it. */}}
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

{{/* Templates hand on what is no text as JSON, which is read much quicker than YAML. */}}

{{/* The sinks that are on, by id; without any, the one that the service takes then. */}}
{{- define "fanout.sinks" -}}
{{- $on := dict -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled }}{{ $_ := set $on $id $sink }}{{ end -}}
{{- end -}}
{{- if not $on }}{{ $_ := set $on "sqlite" (default dict .Values.sinks.sqlite) }}{{ end -}}
{{- toJson $on -}}
{{- end -}}

{{/* Whether a sink writes files: those lie in /data. */}}
{{- define "fanout.hasFiles" -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- if eq (default $id $sink.kind) "sqlite" }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- define "fanout.secretsPath" -}}/etc/metrics-fanout/secrets{{- end -}}

{{/*
What comes from files: by the variable that names the file, a text, {secretName, key} or {configMapName, key}. A secret NAME
is told to the service as NAME_FILE; a setting that names a file has that ending already.
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

{{/* The settings that are no secrets, as variables. */}}
{{- define "fanout.environment" -}}
{{- $env := dict "HTTP_PORT" (include "fanout.text" .Values.service.port) "STOP_TIMEOUT" (printf "%ss" (include "fanout.text" .Values.stopTimeoutSeconds)) -}}
{{- if .Values.profiles.enabled }}{{ $_ := set $env "CONTROL_PROFILE_DIR" "/profiles" }}{{ end -}}
{{- if and (include "fanout.isCore" .) (gt (int .Values.replicas) 1) }}{{ $_ := set $env "METRICS_QUEUE_GROUP" (include "fanout.fullname" .) }}{{ end -}}
{{- /* natsUrl has a default, which gives way to a secret one. */}}
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

{{/* Those whose content is in the values: the chart's own Secret holds it. */}}
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

{{/* What no schema can say. */}}
{{- define "fanout.check" -}}
{{- if regexMatch "^(127\\.|::1$|localhost$)" (default "" .Values.settings.httpHost) }}{{ fail "settings.httpHost: the kubelet asks /healthz from outside of the pod, and would kill it; networkPolicy says who else may reach the port" }}{{ end -}}
{{- if .Values.standby -}}
{{- if include "fanout.isCore" . }}{{ fail "standby: in core mode every instance has messages of its own; raise replicas instead" }}{{ end -}}
{{- if include "fanout.hasFiles" . }}{{ fail "standby: a sqlite sink writes into a file of its pod, but a slice has one checkpoint, so each of its pods would miss windows; switch the sqlite sinks off, or set standby to 0" }}{{ end -}}
{{- end -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled $sink.secrets }}{{ range $key, $_ := $sink.secrets -}}
{{- if hasKey (default dict $sink.settings) $key }}{{ fail (printf "sinks.%s: only one of settings.%s and secrets.%s" $id $key $key) }}{{ end -}}
{{- end }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* Pod and test have these alike. */}}
{{- define "fanout.podSpec" -}}
serviceAccountName: {{ include "fanout.serviceAccountName" . }}
automountServiceAccountToken: false
# A Service called `http` or `sink-a` in the namespace would become HTTP_PORT or SINK_A_PORT.
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
