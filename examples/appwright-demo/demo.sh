#!/bin/bash
# The main job, end to end: one server, one agent with two simulated phones, the suite for two versions of the app.
# Exits 0 when what was expected happened. --keep leaves everything running until Ctrl-C.
set -euo pipefail

keep=
for argument in "$@"; do
  case $argument in
    --keep) keep=yes ;;
    *) echo "usage: demo.sh [--keep]" >&2; exit 2 ;;
  esac
done

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
bin=$root/target/release
data=$root/.demo
versions=(xyz123=1.4.2 xyz124=1.5.0)

rm -rf "$data"
mkdir -p "$data"

# A free port of this machine.
port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
# Port 8080 is where the command line looks first, but it may be taken.
listen=$(node -e 'const s = require("net").createServer(); s.on("error", () => console.log(0)); s.listen(8080, "127.0.0.1", () => { console.log(8080); s.close(); })')
adb_port=$(port)
control_port=$(port)
control=http://127.0.0.1:$control_port

pids=()
finish() {
  local code=$?
  trap - EXIT INT TERM
  # The agent first, so that it can say goodbye to its server and its phones.
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    kill "${pids[i]}" 2> /dev/null || true
    wait "${pids[i]}" 2> /dev/null || true
  done
  adb -P "$adb_port" kill-server 2> /dev/null || true
  exit "$code"
}
trap finish EXIT INT TERM

# start NAME COMMAND...: in the background, its output in a file.
start() {
  local name=$1
  shift
  "$@" > "$data/$name.log" 2>&1 &
  pids+=($!)
}
# await WHAT COMMAND...: for at most two minutes.
await() {
  local what=$1
  shift
  for _ in $(seq 600); do
    if "$@" > /dev/null 2>&1; then return; fi
    sleep 0.2
  done
  echo "demo: $what: not within two minutes; the logs are in $data" >&2
  tail -n 5 "$data"/*.log >&2
  exit 1
}

# The demo works with credentials of its own, unless it stays.
if [ -z "$keep" ]; then
  export QGJOB_CONFIG_DIR=$data/config
fi
export PATH=$bin:$PATH

echo "demo: two simulated phones, a server, an agent; their logs are in $data"
start phones "$bin/simulated-android" --control "127.0.0.1:$control_port" --adb-server "$adb_port" \
  --phone "name=pixel-7-01,port=0,model=Pixel 7,release=14,sdk=34" \
  --phone "name=pixel-8-01,port=0,model=Pixel 8,release=14,sdk=34"
await "the phones" grep -q "ready pixel-8-01" "$data/phones.log"
start server qgjob server run --listen "127.0.0.1:$listen" --data-dir "$data/server"
await "the server" qgjob device list
names=()
while read -r _ name address; do names+=(--device-name "$address=$name"); done < <(grep '^ready ' "$data/phones.log")
start agent qgjob agent run --name demo-rack --state-dir "$data/agent" --adb-port "$adb_port" "${names[@]}"
online() { [ "$(qgjob device list -o json | node -e 'let t = ""; process.stdin.on("data", d => t += d).on("end", () => console.log(JSON.parse(t).items.filter(d => d.state === "idle").length))')" = 2 ]; }
await "the phones at the server" online
qgjob device list

cd "$here"
runs=()
for version in "${versions[@]}"; do
  label=${version%%=*}
  echo
  echo "\$ qgjob submit --org-id=qualgent --app-version-id=$label --app=build/demo-${version#*=}.apk --test=tests --test-retries=1"
  qgjob submit --org-id=qualgent --app-version-id="$label" --app="build/demo-${version#*=}.apk" --test=tests --test-retries=1 \
    -o json > "$data/$label.json"
  run=$(node -p "require('$data/$label.json').run_id")
  echo "$run: $(node -p "require('$data/$label.json').jobs.length") jobs"
  runs+=("$run")
done

for run in "${runs[@]}"; do
  echo
  echo "\$ qgjob status --run-id=$run --watch"
  # One of the runs fails on purpose: what is expected is checked below.
  qgjob status --run-id="$run" --watch || true
done

echo
for run in "${runs[@]}"; do qgjob run view "$run" -o json > "$data/$run.json"; done
for phone in pixel-7-01 pixel-8-01; do
  node -e 'fetch(process.argv[1]).then(r => r.text()).then(t => process.stdout.write(t))' "$control/phones/$phone" > "$data/$phone.truth.json"
done
node "$here/expected.mjs" "$data/${runs[0]}.json" "$data/${runs[1]}.json" "$data"/*.truth.json

if [ -n "$keep" ]; then
  # So that the commands work in a second terminal as they stand.
  mkdir -p ~/.cargo/bin
  ln -sf "$bin/qgjob" ~/.cargo/bin/qgjob
  cat << TEXT

The demo goes on until Ctrl-C. In a second terminal (qgjob is in ~/.cargo/bin now):

    cd $here
    qgjob submit --org-id=qualgent --app-version-id=xyz123 --test=tests/onboarding.spec.js
    qgjob status --job-id=<id> --watch

The phones can be broken: POST {"kind":"unplug"} to $control/phones/pixel-7-01/faults, then {"kind":"replug"}.
TEXT
  wait -n "${pids[@]}"
fi
