# Sourced by the scripts of this module. Every script gets: [force] state next_state action.

here="${BASH_SOURCE[0]%/*}"
port="${WEB_PORT:-8080}"
node="${MIRRORFARM_NODE:-$HOSTNAME}"
folder="${SAFEUSERVAR:-/run}"
pid_file="$folder/web-$port.pid"
lock_file="$folder/web-$port.lock"
log="$folder/web-$port.log"
config="$folder/web-nginx-$port.conf"
WAIT_SECONDS_MAX=20

# The server and every process it makes inherit the lock: who gets it knows that none is left.
lock() { exec 9>>"$lock_file" && flock "$@" 9; }

# The process that the others descend from; it leads their process group.
server() {
    local pid=""
    [[ -e $pid_file ]] && read -r pid <"$pid_file"
    [[ $pid =~ ^[1-9][0-9]*$ ]] && echo "$pid"
}
