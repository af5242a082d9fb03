#!/bin/sh
# Starts a Docker Engine where there is none and no service manager to start one, as in a CI machine: `engine.sh start`, as root.
# Installs Debian's docker.io and docker-compose if they are not there. `engine.sh stop` ends the engine that start has started, and no other.
#
# Nothing but .ci/run calls this: tests use an engine that runs, and skip otherwise.
set -eu
cd "$(dirname "$0")/.."
state=.cache/engine
pid=$state/pid
log=$state/dockerd.log
socket=/var/run/docker.sock

answers() {
  curl -fsS --max-time 5 --unix-socket "$socket" http://engine/_ping >/dev/null 2>&1
}

# Whether the process that start has started has not ended. It takes a moment to become dockerd where the disk is slow.
lives() {
  [ -s "$pid" ] || return 1
  case "$(sed 's/.*) //' "/proc/$(cat "$pid")/stat" 2>/dev/null)" in '' | Z* | X*) return 1 ;; esac
}

# Whether it is dockerd, and not another one that has got its number.
ours() {
  lives && [ "$(cat "/proc/$(cat "$pid")/comm" 2>/dev/null)" = dockerd ]
}

# Whether everything that the tests use is installed.
complete() {
  for name in dockerd docker iptables curl; do command -v "$name" >/dev/null || return 1; done
  command -v docker-compose >/dev/null || docker compose version >/dev/null 2>&1
}

fail() {
  echo "engine: $1" >&2
  [ ! -s "$log" ] || { echo "engine: the end of $log:" >&2; tail -n 40 "$log" >&2; }
  exit 1
}

install() {
  [ "$(id -u)" = 0 ] || fail "only root can install and start an engine; start yours, or let the tests skip"
  command -v apt-get >/dev/null || fail "no dockerd, and no apt-get to install Debian's docker.io with"
  echo "engine: installing docker.io"
  mkdir -p "$state"
  # The client is a package of its own from Debian 13 on, and iptables is what makes the bridge network.
  packages="docker.io docker-compose iptables curl ca-certificates"
  # A mirror that fails is asked again, and a package manager that is at work already is waited for.
  patiently="-qq -o Acquire::Retries=5 -o DPkg::Lock::Timeout=300"
  { apt-get $patiently update
    ! apt-cache show docker-cli >/dev/null 2>&1 || packages="$packages docker-cli"
    DEBIAN_FRONTEND=noninteractive apt-get $patiently install -y --no-install-recommends $packages
  } >"$state/install.log" 2>&1 || { tail -n 20 "$state/install.log" >&2; fail "docker.io could not be installed"; }
}

start() {
  mkdir -p "$state"
  ours || : >"$log"
  complete || install
  # One runs already, or installing the package has started it, as it does where there is a service manager.
  for _ in 1 2 3; do ! answers || { echo "engine: one answers on $socket"; return; }; sleep 1; done
  [ "$(id -u)" = 0 ] || fail "only root can start an engine"
  ours || launch # it may be one that start was impatient with
  waited=0
  until answers; do
    lives || fail "dockerd has ended"
    [ "$waited" -lt 180 ] || fail "dockerd does not answer after three minutes"
    sleep 1
    waited=$((waited + 1))
  done
  docker version --format 'engine: Docker {{.Server.Version}} started, API {{.Server.APIVersion}}'
}

launch() {
  # What a machine that was switched off has left would keep dockerd from starting, if that number is some process's today.
  if [ -s /var/run/docker.pid ] && [ "$(cat "/proc/$(cat /var/run/docker.pid)/comm" 2>/dev/null)" != dockerd ]; then rm -f /var/run/docker.pid; fi
  setsid dockerd >>"$log" 2>&1 </dev/null &
  echo $! >"$pid"
}

stop() {
  ours || { rm -f "$pid"; return; }
  number=$(cat "$pid")
  kill "$number"
  for _ in $(seq 30); do ours || { rm -f "$pid"; echo "engine: stopped"; return; }; sleep 1; done
  kill -9 "$number"
  rm -f "$pid"
}

case "${1:-}" in
  start) start ;;
  stop) stop ;;
  *) echo "usage: containers/engine.sh start|stop" >&2; exit 64 ;;
esac
