{{- /*
Rendered by Helm alone; `ensconce cluster install` gives webhook.authority itself.
The CA of an install stays: it is taken from the cluster where there is one, and made else.
*/ -}}
{{- define "ensconce.webhookAuthority" -}}
{{- $authority := .Values.webhook.authority -}}
{{- if not $authority.certificate -}}
{{- $found := lookup "v1" "Secret" "ensconce-system" "ensconce-webhook-ca" -}}
{{- if $found -}}
{{- $_ := set $authority "certificate" (index $found.data "tls.crt" | b64dec) -}}
{{- $_ := set $authority "key" (index $found.data "tls.key" | b64dec) -}}
{{- else -}}
{{- $made := genCA "ensconce webhook CA" 3650 -}}
{{- $_ := set $authority "certificate" $made.Cert -}}
{{- $_ := set $authority "key" $made.Key -}}
{{- end -}}
{{- end -}}
{{- end -}}
