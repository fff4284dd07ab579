# SPDX-License-Identifier: Apache-2.0
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import SourceError
from ensconce.kube.install.template import Template, render

ROOT: dict[str, Any] = {
    "Values": {
        "a": "x",
        "n": 3,
        "none": "",
        "on": True,
        "off": False,
        "l": ["p", "q"],
        "m": {"k": "v"},
    }
}


def text(template: str) -> str:
    return render([Template(template, "t.yaml")], ROOT)["t.yaml"]


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("{{ .Values.a }}", "x"),
        ("a {{- .Values.a -}} b", "axb"),
        ("{{/* no */}}x", "x"),
        ("{{ if .Values.on }}1{{ else }}2{{ end }}", "1"),
        ("{{ if .Values.off }}1{{ else if .Values.l }}2{{ else }}3{{ end }}", "2"),
        ("{{ if .Values.off }}1{{ else if .Values.none }}2{{ else }}3{{ end }}", "3"),
        ("{{ with .Values.m }}{{ .k }}{{ $.Values.a }}{{ end }}", "vx"),
        ("{{ range .Values.l }}{{ . }},{{ end }}", "p,q,"),
        ('{{ default "d" .Values.none }}{{ .Values.a | default "d" }}', "dx"),
        ("{{ .Values.n | int }}", "3"),
        ('{{ eq .Values.a "x" }} {{ ne .Values.n 3 }}', "true false"),
        ("{{ if and .Values.on (not .Values.off) }}y{{ end }}", "y"),
        ("{{ or .Values.none .Values.a }}", "x"),
        ('{{ define "f" }}<{{ .k }}{{ $.k }}>{{ end }}{{ include "f" .Values.m }}', "<vv>"),
        ("{{ toYaml .Values.m | nindent 2 }}", "\n  k: v"),
        ("{{ .Values.a | quote }}", '"x"'),
    ],
)
def test_the_language_says_what_helm_says(template: str, result: str) -> None:
    assert text(template) == result


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ .Values.missing }}", "line 1: .Values.missing is not set"),
        ("\n\n{{ .Values.n }}", "line 3: .Values.n is no text"),
        ("{{ upper .Values.a }}", "no function upper"),
        ("{{ if .Values.a }}", "if has no end"),
        ("{{ end }}", "end without a beginning"),
        ("{{ range .Values.m }}{{ end }}", "range takes a list"),
        ("{{ range $i, $x := .Values.l }}{{ end }}", "not of the chart's part"),
        ("{{ lookup `v1` }}", "not of the chart's part"),
        ('{{ include "f" . }}', "names no definition"),
        ('{{ define "f" }}{{ include "f" . }}{{ end }}{{ include "f" . }}', "or itself"),
        ("{{ quote (eq 1 1 }}", "not closed"),
        ("{{ eq 1 }}", "takes 2 arguments"),
        ("{{ }}", "empty"),
        ("{{ 1 2 }}", "is no function"),
        ("{{ .Values.a | . }}", "is no function"),
        ("{{ define f }}{{ end }}", "takes a name"),
        ("{{ quote | }}", "quote takes 1 arguments"),
        ("{{ quote if }}", "is no value"),
        ('{{ int "x" }}', "int can't take"),
    ],
)
def test_what_the_language_has_not_is_refused_with_its_line(template: str, said: str) -> None:
    with pytest.raises(SourceError, match=r"^t\.yaml, line \d+: ") as caught:
        text(template)
    assert said in str(caught.value)


@given(st.text(alphabet='{}-/* .$"|()abcdefinlrstw1\n', max_size=80))
def test_any_text_renders_or_is_refused_in_a_sentence(template: str) -> None:
    with contextlib.suppress(SourceError):
        assert isinstance(text("{{" + template), str)
