{{/*
Partitions: the server spreads the subjects, and every partition has a stream, a pipeline, tables and pods of its own
(docs/scale-out.md). With one partition, which is the default, there is nothing of this in the objects.
*/}}
{{- define "fanout.partitions" -}}
{{- int (default 1 .Values.partitions) -}}
{{- end -}}

{{- define "fanout.isPartitioned" -}}
{{- if gt (int (include "fanout.partitions" .)) 1 }}true{{ end -}}
{{- end -}}

{{/* Sets what tells the pipelines of the partitions apart. Arguments: the root, the partition, the variables. */}}
{{- define "fanout.setPartition" -}}
{{- $root := index . 0 -}}
{{- $partition := index . 1 -}}
{{- $env := index . 2 -}}
{{- $_ := set $env "PIPELINE" (printf "%s-%d" (default "default" $env.PIPELINE) $partition) -}}
{{- $_ := set $env "METRICS_STREAM" (printf "%s_%d" (default "METRICS" $env.METRICS_STREAM) $partition) -}}
{{- $_ := set $env "METRICS_SUBJECTS" (printf "%s.%d.>" $root.Values.partitioning.prefix $partition) -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" $root) -}}
{{- $prefix := printf "SINK_%s_" (upper $id) -}}
{{- $kind := default $id $sink.kind -}}
{{- if has $kind (list "postgres" "redshift" "clickhouse" "dynamodb") -}}
{{- $_ := set $env (print $prefix "TABLE") (include "fanout.table" (list $sink $partition)) -}}
{{- else if eq $kind "influxdb" -}}
{{- range $key := list "DATABASE" "BUCKET" -}}
{{- with get $env (print $prefix $key) }}{{ $_ := set $env (print $prefix $key) (regexReplaceAll "^[^/]*" . (printf "${0}_%d" $partition)) }}{{ end -}}
{{- end -}}
{{- else if eq $kind "parquet" -}}
{{- $_ := set $env (print $prefix "URL") (printf "%s/partition=%d" (get $env (print $prefix "URL") | trimSuffix "/") $partition) -}}
{{- else if eq $kind "prometheus" -}}
{{- $_ := set $env (print $prefix "LABELS") (printf "%s,partition=%d" (default "job=metrics-fanout" (get $env (print $prefix "LABELS"))) $partition) -}}
{{- else if eq $kind "otlp" -}}
{{- $_ := set $env (print $prefix "SERVICE") (printf "%s-%d" (default "metrics-fanout" (get $env (print $prefix "SERVICE"))) $partition) -}}
{{- else if eq $kind "nats" -}}
{{- $_ := set $env (print $prefix "SUBJECT") (printf "%s.%d" (default "fanout.windows" (get $env (print $prefix "SUBJECT"))) $partition) -}}
{{- else if not (has $kind (list "sqlite" "blackhole")) -}}
{{- fail (printf "partitions: the chart does not know how a sink of the kind %s keeps the rows of several pipelines apart. Disable sinks.%s, or install a release for each partition." $kind $id) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Arguments: a sink, the partition. */}}
{{- define "fanout.table" -}}
{{- printf "%s_%d" (default "fanout_points" ((index . 0).settings).table) (index . 1) -}}
{{- end -}}

{{/* The mapping for the configuration of nats-server. */}}
{{- define "fanout.mapping" -}}
{{- $values := .Values.partitioning -}}
{{- $target := printf "%s.{{partition(%s,%s)}}" $values.prefix (include "fanout.partitions" .) (join "," $values.tokens) -}}
{{- range $i, $_ := regexFindAll "\\*" $values.subjects -1 }}{{ $target = printf "%s.{{wildcard(%d)}}" $target (add1 $i) }}{{ end -}}
{{- if hasSuffix ".>" $values.subjects }}{{ $target = print $target ".>" }}{{ end -}}
mappings = {
  {{ quote $values.subjects }}: {{ quote $target }}
}
{{- end -}}

{{/*
A view that adds the tables of the partitions up. What cannot be added up, such as a percentile, is there for series that
are in one partition. Arguments: the root, the kind of the sink, the sink.
*/}}
{{- define "fanout.view" -}}
{{- $sink := index . 2 -}}
{{- $isClickHouse := eq (index . 1) "clickhouse" -}}
{{- $dimensions := ternary "dimension_keys, dimension_values" "dimensions" $isClickHouse -}}
{{- $key := printf "window_start, window_ms, series_id, instance, name, type, %s" $dimensions -}}
CREATE VIEW {{ default "fanout_points" ($sink.settings).table }}_all AS
SELECT {{ $key }}, CAST(sum(parts.count) AS bigint) AS count, sum(parts.sum) AS sum, min(parts.min) AS min, max(parts.max) AS max
{{- range list "last" "p50" "p90" "p95" "p99" }},
  CASE WHEN count(*) = 1 THEN max(parts.{{ . }}) END AS {{ . }}
{{- end }}
FROM (
{{- range $partition := until (int (include "fanout.partitions" (index . 0))) }}
  {{ if $partition }}UNION ALL {{ end }}SELECT {{ $key }}, count, sum, min, max, last, p50, p90, p95, p99 FROM {{ include "fanout.table" (list $sink $partition) }}{{ if $isClickHouse }} FINAL{{ end }}
{{- end }}
) AS parts GROUP BY {{ $key }};
{{- end -}}
