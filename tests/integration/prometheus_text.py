# SPDX-License-Identifier: MIT
"""Reads the text format of Prometheus, strictly."""

import re

SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (\S+)')


def series(text):
    """{(name, frozenset of labels): value}"""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        labels = frozenset(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
        assert (match[1], labels) not in found, line
        found[match[1], labels] = float(match[3])
    return found


def families(text):
    """{name: (type, {labels: {"bucket": {le: count}, "sum": …, "count": …}})}; the samples are of histograms only."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    found = {name: (kind, {}) for name, kind in kinds.items()}
    for (name, labels), value in series(text).items():
        base, _, part = name.rpartition("_")
        if kinds.get(base) != "histogram":
            assert name in kinds, name
            continue
        plain = frozenset(label for label in labels if label[0] != "le")
        one = found[base][1].setdefault(plain, {"bucket": {}})
        if part == "bucket":
            one["bucket"][float(dict(labels)["le"].replace("+Inf", "inf"))] = value
        else:
            one[part] = value
    return found
