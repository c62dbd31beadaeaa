{{/* What a schema cannot express. Every check fails before anything is changed in the cluster. */}}
{{- define "fanout.check" -}}
{{- if regexMatch "^(127\\.|::1$|localhost$)" (default "" (.Values.settings).httpHost) }}{{ fail "settings.httpHost: the kubelet asks /livez from outside the pod, and would kill the pod. Remove the setting; networkPolicy limits who else can reach the port." }}{{ end -}}
{{- include "fanout.checkMemory" . -}}
{{- if .Values.standby -}}
{{- if include "fanout.isCore" . }}{{ fail "standby: in core mode every instance has its own messages. Raise replicas instead." }}{{ end -}}
{{- if include "fanout.hasFiles" . }}{{ fail "standby: a sqlite sink writes to a file in its pod, and a parquet sink with a folder to files there, but a slice has one checkpoint, so each of its pods would miss windows. Disable these sinks, or set standby to 0." }}{{ end -}}
{{- end -}}
{{- if include "fanout.isPartitioned" . -}}
{{- if include "fanout.isCore" . }}{{ fail "partitions: in core mode there are no streams. Raise replicas instead." }}{{ end -}}
{{- if (.Values.settings).metricsSubjects }}{{ fail "partitions: each partition reads its own subjects. Remove settings.metricsSubjects; partitioning.subjects are those that are spread." }}{{ end -}}
{{- end -}}
{{- range $key, $value := .Values.settings -}}
{{- if not (hasKey (default dict $.Values.secrets) $key) }}{{ include "fanout.checkUserInfo" (dict "path" "" "key" $key "value" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := fromJson (include "fanout.sinks" .) -}}
{{- if and ($sink.settings).window (gt (int $.Values.replicas) 1) (not (include "fanout.isCore" $)) }}{{ fail (printf "sinks.%s.settings.window: with several replicas, no pod has all windows that a longer one is made of, and none would start. Set replicas to 1, or remove it." $id) }}{{ end -}}
{{- range $key, $value := $sink.settings }}{{ include "fanout.checkUserInfo" (dict "path" (printf "sinks.%s." $id) "key" $key "value" $value) }}{{ end -}}
{{- end -}}
{{- range $id, $sink := .Values.sinks -}}
{{- if and $sink $sink.enabled $sink.secrets }}{{ range $key, $_ := $sink.secrets -}}
{{- if hasKey (default dict $sink.settings) $key }}{{ fail (printf "sinks.%s: settings.%s and secrets.%s are both set. Set only one of them." $id $key $key) }}{{ end -}}
{{- end }}{{ end -}}
{{- end -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "SLICE" "POD_INDEX") }}{{ fail (printf "extraEnv: %s is set by the chart, from the number of the pod and `replicas`." .name) }}{{ end -}}
{{- if eq .name "HTTP_PORT" }}{{ fail "extraEnv: HTTP_PORT would move the port away from the probes and the Services. Set service.port." }}{{ end -}}
{{- end -}}
{{- end -}}

{{/*
Fails if a setting is a URL with a user or a password: settings are variables of the pod. The schema leaves this to the
template, because its message would repeat the URL. Arguments: the name of the values that hold the setting, its key,
its value.
*/}}
{{- define "fanout.checkUserInfo" -}}
{{- $text := include "fanout.text" .value -}}
{{- $isAddress := regexMatch "(?i)(url|endpoint)$" .key -}}
{{- if or (regexMatch "[A-Za-z][A-Za-z0-9+.-]*:[/\\\\]{2}[^/?#\\s]*@" $text) (and $isAddress (regexMatch "(^|,)\\s*([A-Za-z][A-Za-z0-9+.-]*:)?[/\\\\]*[^/?#,]*@" $text)) -}}
{{- fail (printf "%ssettings.%s: the URL has a user or a password, and everybody who may read pods would see it. Move the setting to %ssecrets.%s." .path .key .path .key) -}}
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
{{- $limit := ((.Values.resources).limits).memory -}}
{{- if $limit -}}
{{- $budget := default "48MB" (.Values.settings).maxSeriesBytes -}}
{{- $sinks := len (fromJson (include "fanout.sinks" .)) -}}
{{- $recent := include "fanout.bytes" (default "64MB" (.Values.settings).recentBytes) | float64 -}}
{{- $needed := addf (mulf 14 (include "fanout.bytes" $budget | float64)) $recent 125000000 (mulf 45000000 $sinks) -}}
{{- if gt $needed (include "fanout.bytes" $limit | float64) -}}
{{- fail (printf "settings.maxSeriesBytes: with %s, a pod may need %.0f MB, and resources.limits.memory is %s. Raise the limit, or lower maxSeriesBytes." $budget (divf $needed 1000000) (include "fanout.text" $limit)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Fails if two entries of a list are alike: the API server would refuse them, but perhaps after other objects have
changed. Arguments: the values that the entries come from, the keys that tell them apart, the list.
*/}}
{{- define "fanout.checkUnique" -}}
{{- $keys := index . 1 -}}
{{- $seen := dict -}}
{{- range $entry := index . 2 -}}
{{- $name := list -}}
{{- range $keys }}{{ $name = append $name (default "" (get $entry .)) }}{{ end -}}
{{- $name = join " and " $name -}}
{{- if hasKey $seen $name }}{{ fail (printf "%s: two entries have the same %s, %s. Kubernetes takes only one." (index $ 0) (join " and " $keys) $name) }}{{ end -}}
{{- $_ := set $seen $name true -}}
{{- end -}}
{{- end -}}

{{/* Fails if lists of a StatefulSet do not fit together. Argument: the StatefulSet. */}}
{{- define "fanout.checkLists" -}}
{{- $pod := .spec.template.spec -}}
{{- if gt (len .metadata.name) 52 }}{{ fail (printf "fullnameOverride: %s has more than 52 characters, and its pods could not be labelled. Set a shorter name." .metadata.name) }}{{ end -}}
{{- $containers := concat $pod.containers (default list $pod.initContainers) -}}
{{- include "fanout.checkUnique" (list "topologySpread.constraints" (list "topologyKey" "whenUnsatisfiable") $pod.topologySpreadConstraints) -}}
{{- include "fanout.checkUnique" (list "extraContainers, initContainers" (list "name") $containers) -}}
{{- include "fanout.checkUnique" (list "imagePullSecrets" (list "name") $pod.imagePullSecrets) -}}
{{- include "fanout.checkUnique" (list "hostAliases" (list "ip") $pod.hostAliases) -}}
{{- $volumes := $pod.volumes -}}
{{- range .spec.volumeClaimTemplates }}{{ $volumes = append $volumes .metadata }}{{ end -}}
{{- include "fanout.checkUnique" (list "extraVolumes" (list "name") $volumes) -}}
{{- $names := list }}{{ range $volumes }}{{ $names = append $names .name }}{{ end -}}
{{- range $containers -}}
{{- include "fanout.checkUnique" (list "extraEnv" (list "name") .env) -}}
{{- include "fanout.checkUnique" (list "extraVolumeMounts" (list "mountPath") .volumeMounts) -}}
{{- range .volumeMounts -}}
{{- if not (has .name $names) }}{{ fail (printf "extraVolumeMounts: there is no volume %s. Add it to extraVolumes." .name) }}{{ end -}}
{{- end -}}
{{- include "fanout.checkUnique" (list "extraContainers" (list "containerPort" "protocol") .ports) -}}
{{- end -}}
{{- end -}}

{{/*
Fails if an upgrade would change what a StatefulSet cannot change. The API server refuses that only after it has taken
the other objects of the release. `helm template` and Argo CD know no cluster, so there it is left to the README.
Argument: a StatefulSet.
*/}}
{{- define "fanout.checkImmutable" -}}
{{- $is := lookup "apps/v1" "StatefulSet" .metadata.namespace .metadata.name -}}
{{- if $is -}}
{{- $name := printf "statefulset %s -n %s" .metadata.name .metadata.namespace -}}
{{- if ne (toJson $is.spec.selector.matchLabels) (toJson .spec.selector.matchLabels) -}}
{{- fail (printf "nameOverride, partitions: the labels by which a StatefulSet knows its pods cannot change. Nothing has been changed. Take the old value back, or stop the pods and upgrade again: kubectl delete %s" $name) -}}
{{- end -}}
{{- if or (ne (include "fanout.claims" $is) (include "fanout.claims" .)) (ne $is.spec.podManagementPolicy .spec.podManagementPolicy) -}}
{{- fail (printf "persistence, commonLabels, or a sink with files in its pod: a StatefulSet cannot change its volume claims. Nothing has been changed. Take the old values back, or upgrade again after this, which leaves the pods running: kubectl delete %s --cascade=orphan" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What counts of the claims, without what the API server adds and however it writes a size. */}}
{{- define "fanout.claims" -}}
{{- range .spec.volumeClaimTemplates -}}
{{- toJson .metadata.labels }} {{ toJson .spec.accessModes }} {{ toJson .spec.storageClassName }} {{ include "fanout.bytes" .spec.resources.requests.storage }}
{{- end -}}
{{- end -}}
