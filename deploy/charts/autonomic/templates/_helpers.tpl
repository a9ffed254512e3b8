{{/* The beginning of every name, and the name of the installation: 31 characters at most. */}}
{{- define "autonomic.name" -}}
{{- $name := .Release.Name }}
{{- if not (contains "autonomic" $name) }}{{ $name = printf "%s-autonomic" $name }}{{ end }}
{{- if gt (len $name) 31 }}{{ fail (printf "the names of this release would begin with %s, which has %d characters; 31 are allowed: give the release a shorter name" $name (len $name)) }}{{ end }}
{{- $name }}
{{- end }}

{{- define "autonomic.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What selects the pods of a release, and with (list $ "planner") those of one part. */}}
{{- define "autonomic.selector" -}}
app.kubernetes.io/name: autonomic
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
{{- define "autonomic.selectorOf" -}}
{{ include "autonomic.selector" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "autonomic.labels" -}}
{{ include "autonomic.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
{{- define "autonomic.labelsOf" -}}
{{ include "autonomic.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "autonomic.tokens" -}}
{{ .Values.tokens.existingSecret | default (printf "%s-tokens" (include "autonomic.name" .)) }}
{{- end }}

{{/* Whether the parts that remember keep that on volumes. */}}
{{- define "autonomic.volumes" -}}
{{- if and (not .Values.journal.existingSecret) (not .Values.persistence.enabled) }}
{{- fail "the journal needs a place that outlives pods: leave persistence.enabled true, or name a Secret with the URL of a PostgreSQL database in journal.existingSecret" }}
{{- end }}
{{- if not .Values.journal.existingSecret }}true{{ end }}
{{- end }}

{{/* HOME/settings.json of every part. */}}
{{- define "autonomic.settings" -}}
{{- $name := include "autonomic.name" . -}}
{{- dict
  "home" "/var/lib/autonomic"
  "listen_address" "0.0.0.0"
  "monitor_url" (printf "http://%s-monitor:8000" $name)
  "planner_url" (printf "http://%s-planner:8000" $name)
  "tuner_url" (printf "http://%s-tuner:8000" $name)
  "host_url" (printf "http://%s-host:8000" $name)
  "front_url" (printf "http://%s-front.%s.svc:%d" $name .Release.Namespace (int .Values.front.service.port))
  "prometheus_url" (.Values.prometheus.url | trimSuffix "/")
  "mlflow_url" (.Values.mlflow.url | trimSuffix "/")
  "platform" "kubernetes"
  "custom_resources" .Values.customResources.enabled
| toPrettyJson }}
{{- end }}

{{/* HOME/kubernetes.json of the planner and the host. */}}
{{- define "autonomic.platform" -}}
{{- $own := dict
  "namespace" .Release.Namespace
  "installation" (include "autonomic.name" .)
  "mlflow_url" (.Values.mlflow.url | trimSuffix "/")
  "front_address" "0.0.0.0"
  "custom_resources" .Values.customResources.enabled -}}
{{- $pulled := dict "image" (include "autonomic.image" .) "image_pull_policy" .Values.image.pullPolicy "python" .Values.python -}}
{{- $secrets := list -}}
{{- range .Values.imagePullSecrets }}{{ $secrets = append $secrets .name }}{{ end -}}
{{- if $secrets }}{{ $_ := set $pulled "image_pull_secrets" $secrets }}{{ end -}}
{{- mergeOverwrite $pulled (deepCopy .Values.platform) $own | toPrettyJson }}
{{- end }}
