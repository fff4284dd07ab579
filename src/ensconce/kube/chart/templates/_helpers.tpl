{{- define "ensconce.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "ensconce.labels" -}}
app.kubernetes.io/name: ensconce
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: ensconce
{{- end -}}

{{- define "ensconce.container" -}}
image: {{ include "ensconce.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end -}}

{{- define "ensconce.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* A container with nothing that Pod Security `restricted` forbids. */ -}}
{{- define "ensconce.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "ensconce.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ensconce.webhookRules" -}}
rules:
  - apiGroups: [""]
    apiVersions: [v1]
    operations: [CREATE]
    resources: [pods]
    scope: Namespaced
# only pods that ask for SGX, or are about to, meet the webhook: no others can be held up by it
matchConditions:
  - name: asks-for-sgx
    expression: >-
      (object.spec.containers + object.spec.?initContainers.orValue([])).exists(c,
      ["alibabacloud.com/sgx_epc_MiB", "sgx.intel.com/epc", "kubernetes.azure.com/sgx_epc_mem_in_MiB",
      "openenclave.io/sgx_epc_MiB", "sgx.intel.com/enclave", "sgx.intel.com/provision",
      "sgx.intel.com/qe", "sgx.intel.com/registration"].exists(name,
      name in c.?resources.?limits.orValue({}) || name in c.?resources.?requests.orValue({}))) ||
      ('marblerun/marbletype' in object.metadata.?labels.orValue({}) &&
      object.metadata.labels[?'marblerun/resource-injection'].orValue('') != 'disabled')
matchPolicy: Equivalent
failurePolicy: Fail
sideEffects: None
timeoutSeconds: {{ .Values.webhook.timeoutSeconds | int }}
admissionReviewVersions: [v1]
{{- end -}}
