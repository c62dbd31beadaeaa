{{/* Templates pass everything but text as JSON, which is parsed much faster than YAML. */}}

{{/* natsTlsCaFile -> NATS_TLS_CA_FILE, as the service does it. */}}
{{- define "fanout.variable" -}}
{{- regexReplaceAll "([a-z0-9])([A-Z])" . "${1}_${2}" | upper -}}
{{- end -}}

{{/* Numbers as JSON writes them: Go writes 1000000 as 1e+06. */}}
{{- define "fanout.text" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if not (kindIs "invalid" .) }}{{ toJson . }}{{ end -}}
{{- end -}}

{{/* The enabled sinks, by id. If there is none, the default sink of the service. */}}
{{- define "fanout.sinks" -}}
{{- $on := dict -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled }}{{ $_ := set $on $id $sink }}{{ end -}}
{{- end -}}
{{- if not $on }}{{ $_ := set $on "sqlite" (default dict (.Values.sinks).sqlite) }}{{ end -}}
{{- toJson $on -}}
{{- end -}}

{{/* Whether a sink writes files, which are in /data. */}}
{{- define "fanout.hasFiles" -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- if eq (default $id $sink.kind) "sqlite" }}true{{ end -}}
{{- if and (eq (default $id $sink.kind) "parquet") (hasPrefix "file:" (default "" ($sink.settings).url)) }}true{{ end -}}
{{- end -}}
{{- end -}}

{{- define "fanout.isCore" -}}
{{- if eq (default "jetstream" (.Values.settings).metricsSource) "core" }}true{{ end -}}
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
{{- range $variable, $from := $all }}{{ if not $from }}{{ $_ := unset $all $variable }}{{ end }}{{ end -}}
{{- toJson $all -}}
{{- end -}}

{{/* Files whose content is in the values: the chart's own Secret contains it. */}}
{{- define "fanout.ownSecrets" -}}
{{- $own := dict -}}
{{- range $variable, $from := fromJson (include "fanout.mounted" .) -}}
{{- if kindIs "string" $from }}{{ $_ := set $own $variable (b64enc $from) }}{{ end -}}
{{- end -}}
{{- toJson $own -}}
{{- end -}}

{{/* The settings that are not secret, as variables. Arguments: the root, the number of the partition. */}}
{{- define "fanout.environment" -}}
{{- $root := index . 0 -}}
{{- $partition := index . 1 -}}
{{- $values := $root.Values -}}
{{- $env := dict "HTTP_PORT" (include "fanout.text" $values.service.port) "STOP_TIMEOUT" (printf "%ss" (include "fanout.text" $values.stopTimeoutSeconds)) -}}
{{- $_ := set $env "CONTROL_SOCKET" "/tmp/metrics-fanout.sock" -}}
{{- if ($values.profiles).enabled }}{{ $_ := set $env "CONTROL_PROFILE_DIR" "/profiles" }}{{ end -}}
{{- if and (include "fanout.isCore" $root) (gt (int $values.replicas) 1) }}{{ $_ := set $env "METRICS_QUEUE_GROUP" (include "fanout.fullname" $root) }}{{ end -}}
{{- /* A secret natsUrl takes precedence over the default one. */}}
{{- range $key, $value := $values.settings -}}
{{- if not (hasKey (default dict $values.secrets) $key) }}{{ $_ := set $env (include "fanout.variable" $key) (include "fanout.text" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" $root) -}}
{{- $prefix := printf "SINK_%s_" (upper $id) -}}
{{- $_ := set $env (print $prefix "ENABLED") "true" -}}
{{- with $sink.kind }}{{ $_ := set $env (print $prefix "KIND") . }}{{ end -}}
{{- if eq (default $id $sink.kind) "sqlite" }}{{ $_ := set $env (print $prefix "PATH") (printf "/data/%s.db" $id) }}{{ end -}}
{{- range $key, $value := $sink.settings }}{{ $_ := set $env (print $prefix (include "fanout.variable" $key)) (include "fanout.text" $value) }}{{ end -}}
{{- end -}}
{{- if include "fanout.isPartitioned" $root }}{{ include "fanout.setPartition" (list $root $partition $env) }}{{ end -}}
{{- range $variable, $from := fromJson (include "fanout.mounted" $root) }}{{ $_ := set $env $variable (printf "%s/%s" (include "fanout.secretsPath" $root) $variable) }}{{ end -}}
{{- range $name, $text := $env }}{{ if eq $text "" }}{{ $_ := unset $env $name }}{{ end }}{{ end -}}
{{- toJson $env -}}
{{- end -}}

{{/*
The variables of a container. They are in the pod, and not in a ConfigMap beside it, so that a revision of the
StatefulSet is whole: `kubectl rollout undo` brings back the settings too, and an upgrade that is refused changes
nothing. Arguments: the root, the number of the partition, the slice.
*/}}
{{- define "fanout.env" -}}
{{- $root := index . 0 -}}
{{- $own := dict -}}
{{- range $root.Values.extraEnv }}{{ $_ := set $own .name true }}{{ end -}}
{{- range $name, $text := fromJson (include "fanout.environment" .) }}
{{- if not (hasKey $own $name) }}
- name: {{ $name }}
  {{- /* Kubernetes takes $(NAME) for the value of another variable, and $$ for $. */}}
  value: {{ $text | replace "$" "$$" | toJson }}
{{- end }}
{{- end }}
{{- with $root.Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- if not (index . 2) }}
- name: POD_INDEX
  valueFrom:
    fieldRef:
      # Written out, so that nothing differs from what the API server makes of it.
      apiVersion: v1
      fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
{{- end }}
- name: SLICE
  value: {{ default (printf "$(POD_INDEX)/%d" (int $root.Values.replicas)) (index . 2) }}
{{- end -}}
