{{- define "aligner-connector.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Short enough for what Kubernetes appends to it: "-headless", ordinals, revision hashes. */}}
{{- define "aligner-connector.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "aligner-connector.selectorLabels" -}}
app.kubernetes.io/name: {{ include "aligner-connector.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "aligner-connector.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "aligner-connector.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: connector
app.kubernetes.io/managed-by: {{ .Release.Service }}
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

{{/* The name in the configuration, which group and transactional ids are made of. */}}
{{- define "aligner-connector.connectorName" -}}
{{- default (include "aligner-connector.fullname" .) .Values.config.name -}}
{{- end -}}

{{- define "aligner-connector.groupId" -}}
{{- default (printf "connect-%s" (include "aligner-connector.connectorName" .)) .Values.config.kafka.group_id -}}
{{- end -}}

{{/* The configuration file: the user's, with what only the chart can know. */}}
{{- define "aligner-connector.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "name" (include "aligner-connector.connectorName" .) -}}
{{- $service := default dict $config.service -}}
{{- $_ := set $config "service" (set $service "listen" (printf "0.0.0.0:%d" (int .Values.service.port))) -}}
{{- toYaml $config -}}
{{- end -}}
