#!/usr/bin/env bash
# Checks what lies beside it with the tools that are there:  server/deploy/check.sh
# promtool (Debian's package prometheus) reads the alert rules, runs their tests, and reads every expression of the dashboard;
# systemd-analyze reads the unit; Python reads the YAML of Kubernetes if it has a reader.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
promtool check rules prometheus-rules.yml
promtool test rules prometheus-rules.test.yml
python3 - "$work/dashboard.yml" <<'END'
import json, sys
expressions = [t["expr"] for p in json.load(open("grafana-dashboard.json"))["panels"] for t in p["targets"]]
filled = [e.replace("$__rate_interval", "5m").replace("$instance", ".*") for e in expressions]
rules = [{"record": f"dashboard:{i}", "expr": e} for i, e in enumerate(filled)]
# JSON is YAML.
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, open(sys.argv[1], "w"))
END
promtool check rules "$work/dashboard.yml"
if command -v systemd-analyze >/dev/null; then
    # The unit as it is, but for a program and a user that are there.
    sed 's,^ExecStart=[^ ]*,ExecStart=/bin/true,; /^User=/d; /^Group=/d' aerolithd.service >"$work/aerolithd.service"
    systemd-analyze verify "$work/aerolithd.service"
    echo 'systemd-analyze verify: the unit is sound'
else
    echo 'NOT RUN: systemd-analyze is not installed'
fi
if python3 -c 'import yaml' 2>/dev/null; then
    python3 -c 'import yaml; print("kubernetes.yaml:", ", ".join(d["kind"] for d in yaml.safe_load_all(open("kubernetes.yaml"))))'
else
    echo 'NOT RUN: Python has no reader of YAML'
fi
