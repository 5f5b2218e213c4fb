{{- define "aligner-connector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what Kubernetes appends to it: "-headless", ordinals, revision hashes. */}}
{{- define "aligner-connector.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $fullname := .Values.fullnameOverride -}}
{{- if not $fullname -}}
{{- $fullname = ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- end -}}
{{- $fullname = $fullname | trunc 52 | trimSuffix "-" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- fail (printf "%s cannot be the name of a Service: set fullnameOverride to lower-case letters, digits and hyphens, with a letter first" $fullname) -}}
{{- end -}}
{{- $fullname -}}
{{- end -}}

{{/* Where the connector listens in its pod. Not service.port, which may be one that only root can bind. */}}
{{- define "aligner-connector.port" -}}
8083
{{- end -}}

{{- define "aligner-connector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aligner-connector.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "aligner-connector.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "aligner-connector.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: connector
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Labels of an object that takes some of its own: a list of the root and of those. Theirs win. */}}
{{- define "aligner-connector.labelsWith" -}}
{{- $labels := include "aligner-connector.labels" (index . 0) | fromYaml -}}
{{- toYaml (mergeOverwrite $labels (default dict (index . 1))) -}}
{{- end -}}

{{/* Labels of the pods, beside those that select them. */}}
{{- define "aligner-connector.podLabels" -}}
{{- with mergeOverwrite (deepCopy (default dict .Values.commonLabels)) (default dict .Values.podLabels) -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "aligner-connector.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "aligner-connector.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "aligner-connector.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{- printf "%s@%s" .repository .digest -}}
{{- else -}}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name in the configuration, which group and transactional ids are made of. With the namespace: two of them may
have releases of one name, and one Kafka. Joined by what neither of the two may hold: with a hyphen, ml and prod-x would
be ml-prod and x. */}}
{{- define "aligner-connector.connectorName" -}}
{{- default (printf "%s.%s" .Release.Namespace (include "aligner-connector.fullname" .)) .Values.config.name -}}
{{- end -}}

{{- define "aligner-connector.groupId" -}}
{{- default (printf "connect-%s" (include "aligner-connector.connectorName" .)) .Values.config.kafka.group_id -}}
{{- end -}}

{{/* The configuration file: the user's, with what only the chart can know. */}}
{{- define "aligner-connector.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "name" (include "aligner-connector.connectorName" .) -}}
{{- $service := default dict $config.service -}}
{{- $_ := set $config "service" (set $service "listen" (printf "0.0.0.0:%s" (include "aligner-connector.port" .))) -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Whether the model is one of the Hugging Face hub: owner/name@revision, as connector/service/src/hub.rs reads it. */}}
{{- define "aligner-connector.isHubModel" -}}
{{- $part := "[A-Za-z0-9_-][A-Za-z0-9_.-]*" -}}
{{- $aligner := default dict .Values.config.aligner -}}
{{- if regexMatch (printf "^%s/%s@%s$" $part $part $part) (toString $aligner.model) -}}true{{- end -}}
{{- end -}}

{{/* Whether extraEnv says where models are kept. */}}
{{- define "aligner-connector.namesModelCache" -}}
{{- range .Values.extraEnv -}}
{{- if has .name (list "HF_HOME" "HF_HUB_CACHE") -}}true{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether pods have a model cache. With persistence always: a StatefulSet cannot lose its claim template. */}}
{{- define "aligner-connector.hasModelCache" -}}
{{- $cache := .Values.modelCache -}}
{{- $isHubModel := include "aligner-connector.isHubModel" . -}}
{{- $isNamed := include "aligner-connector.namesModelCache" . -}}
{{- if eq (toString $cache.enabled) "false" -}}
{{- if $cache.persistence.enabled -}}
{{- fail "modelCache.persistence.enabled is true and modelCache.enabled is false: leave modelCache.enabled null for a model cache with a volume, or set both to false for none" -}}
{{- end -}}
{{- $isReadOnly := dig "readOnlyRootFilesystem" false (default dict .Values.securityContext) -}}
{{- if and $isHubModel $isReadOnly (not $isNamed) (not .Values.extraEnvFrom) -}}
{{- fail (printf "config.aligner.model %s comes from the Hugging Face hub, modelCache.enabled is false, and the root file system is read-only: there is no place for it. Leave modelCache.enabled null, or set HF_HOME in extraEnv to a folder of extraVolumeMounts or of the image" .Values.config.aligner.model) -}}
{{- end -}}
{{- else if or $cache.enabled $cache.persistence.enabled (and $isHubModel (not $isNamed)) -}}
true
{{- end -}}
{{- end -}}

{{/* Refuses variables that would overrule what the chart sets or counts on: they win over the file. Their names are read
as connector/service/src/config/layers.rs does, in small letters or large. What extraEnvFrom holds is not known here. */}}
{{- define "aligner-connector.refuseVariables" -}}
{{- $instead := dict
  "ALIGNER__KAFKA__INSTANCE_ID" "the chart gives each pod its own; choose from what with instanceId"
  "ALIGNER__SERVICE__LISTEN" "probes and Services look for the address that the chart sets; choose the Service's port with service.port"
  "ALIGNER__PIPELINE__DRAIN_TIMEOUT_MS" "set config.pipeline.drain_timeout_ms instead, which terminationGracePeriodSeconds is checked against"
  "ALIGNER__PIPELINE__CLOSE_TIMEOUT_MS" "set config.pipeline.close_timeout_ms instead, which terminationGracePeriodSeconds is checked against"
-}}
{{- if .Values.keda.enabled -}}
{{- $_ := set $instead "ALIGNER__NAME" "set config.name instead, which names the group whose lag KEDA watches" -}}
{{- $_ := set $instead "ALIGNER__KAFKA__GROUP_ID" "set config.kafka.group_id instead, the group whose lag KEDA watches" -}}
{{- $_ := set $instead "ALIGNER__KAFKA__BOOTSTRAP_SERVERS" "set config.kafka.bootstrap_servers instead, which KEDA asks for the lag" -}}
{{- $_ := set $instead "ALIGNER__KAFKA__START_FROM" "set config.kafka.start_from instead, which KEDA goes by where nothing is committed" -}}
{{- $_ := set $instead "ALIGNER__TOPICS__ANSWERS" "set config.topics.answers instead, the topics whose lag KEDA watches" -}}
{{- end -}}
{{- range $list := list "secretEnv" "extraEnv" -}}
{{- range index $.Values $list -}}
{{- $name := toString .name -}}
{{- with get $instead ($name | upper | replace "." "__") -}}
{{- fail (printf "%s sets %s: %s" $list $name .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
