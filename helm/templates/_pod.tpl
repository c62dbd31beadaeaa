{{/* Shared by the pods and the check. */}}
{{- define "fanout.podSpec" -}}
serviceAccountName: {{ include "fanout.serviceAccountName" . }}
automountServiceAccountToken: false
# With links, a Service called `http` or `sink-a` in the namespace would set HTTP_PORT or SINK_A_PORT.
enableServiceLinks: false
{{- with concat (default list (.Values.global).imagePullSecrets) (default list .Values.imagePullSecrets) | uniq }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "priorityClassName" "runtimeClassName" "schedulerName" "dnsPolicy" "dnsConfig" "hostAliases" "nodeSelector" "tolerations" }}
{{- with get $.Values $key }}
{{ toYaml (dict $key .) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fanout.container" -}}
image: {{ include "fanout.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A probe, or none if the value is null. Arguments: its name, its path, its value. */}}
{{- define "fanout.probe" -}}
{{- if index . 2 }}
{{ index . 0 }}:
  httpGet: {path: {{ index . 1 }}, port: http}
  {{- toYaml (index . 2) | nindent 2 }}
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

{{/*
How the pods spread. With a standby, each constraint counts the pods of one slice, so that these do not share a node or
a zone. Argument: the root.
*/}}
{{- define "fanout.spread" -}}
{{- $selector := dict "matchLabels" (fromYaml (include "fanout.selectorLabels" .)) -}}
{{- $own := dict "labelSelector" $selector -}}
{{- if .Values.standby -}}
{{- $keys := list "apps.kubernetes.io/pod-index" -}}
{{- if include "fanout.isPartitioned" . }}{{ $keys = append $keys "metrics-fanout/partition" }}{{ end -}}
{{- $_ := set $own "matchLabelKeys" $keys -}}
{{- end -}}
{{- range (.Values.topologySpread).constraints }}
- {{ toYaml (merge (deepCopy .) $own) | nindent 2 | trim }}
{{- end }}
{{- end -}}
