{{- define "fanout.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Leaves room for what the StatefulSet and its pods add to it. */}}
{{- define "fanout.fullname" -}}
{{- $name := include "fanout.name" . -}}
{{- $both := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- default $both .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanout.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "fanout.serviceAccountName" -}}
{{- $own := (.Values.serviceAccount).create -}}
{{- default (ternary (include "fanout.fullname" .) "default" (default false $own)) (.Values.serviceAccount).name -}}
{{- end -}}

{{- define "fanout.image" -}}
{{- with .Values.image -}}
{{- with default ($.Values.global).imageRegistry .registry }}{{ . }}/{{ end -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "fanout.selectorLabels" -}}
app.kubernetes.io/name: {{ include "fanout.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/*
Labels and annotations may come from several values, and a key must not occur twice. Of a list of maps, which may be
nil, the last one with a key wins: that of the chart.
*/}}
{{- define "fanout.union" -}}
{{- $all := dict -}}
{{- range . }}{{ $all = mergeOverwrite $all (deepCopy (default dict .)) }}{{ end -}}
{{- range $key, $value := $all }}{{ if kindIs "invalid" $value }}{{ $_ := unset $all $key }}{{ end }}{{ end -}}
{{- if $all }}{{ toYaml $all }}{{ end -}}
{{- end -}}

{{/* Of an object. Arguments: the root, labels of the user, labels of the chart. */}}
{{- define "fanout.labels" -}}
{{- $root := index . 0 -}}
{{- $chart := dict "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") "app.kubernetes.io/version" $root.Chart.AppVersion "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- include "fanout.union" (list $root.Values.commonLabels (index . 1) $chart (include "fanout.selectorLabels" $root | fromYaml) (index . 2)) -}}
{{- end -}}

{{/*
Name, namespace, labels and annotations of an object. Arguments: the root; what follows the name of the release; labels
and annotations of the user; labels of the chart.
*/}}
{{- define "fanout.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "fanout.fullname" $root }}{{ index . 1 }}
namespace: {{ include "fanout.namespace" $root }}
labels:
  {{- include "fanout.labels" (list $root (index . 2) (index . 4)) | nindent 2 }}
{{- with include "fanout.union" (list (index . 3)) }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* An object with what the user has for it under `merge`. Arguments: the root, its name there, its text. */}}
{{- define "fanout.merged" -}}
{{- $more := get (default dict (index . 0).Values.merge) (index . 1) -}}
{{- if $more }}{{ mergeOverwrite (fromYaml (index . 2)) (deepCopy $more) | toYaml }}{{ else }}{{ index . 2 }}{{ end -}}
{{- end -}}
