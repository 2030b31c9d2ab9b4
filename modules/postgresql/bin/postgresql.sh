# Sourced by the scripts of this module. Works without systemd; everything runs as postgres.
# Every script gets: [force] state next_state action.

: "${PGDATA:?}" "${PGPORT:=5432}" "${PGLISTEN:=*}" "${PGSOCKETS:=/var/run/postgresql}"
PGUSER_SYSTEM=postgres

# The newest pg_ctl of the version that made the data; before there is data, the newest.
find_pg_ctl() {
    if [[ -n ${PG_CTL:-} ]]; then
        echo "$PG_CTL"
        return
    fi
    local version candidate
    version="$(cat "$PGDATA/PG_VERSION" 2>/dev/null)"
    for candidate in "/usr/lib/postgresql/${version:-none}/bin/pg_ctl" \
        "/usr/pgsql-${version:-none}/bin/pg_ctl" "$(command -v pg_ctl)"; do
        if [[ -x $candidate ]]; then
            echo "$candidate"
            return
        fi
    done
    echo "no pg_ctl for PostgreSQL ${version:-of unknown version}; set the macro PG_CTL" >&2
    return 1
}

as_postgres() {
    ( cd / && exec setpriv --reuid="$PGUSER_SYSTEM" --regid="$PGUSER_SYSTEM" --init-groups "$@" )
}

# Numbers of the processes that serve $PGDATA, one a line. What postmaster.pid says may be from
# the other node, or by now mean another program: only the directory they work in counts.
servers() {
    local here
    here="$(stat -L -c %d:%i "$PGDATA")" || return 0
    stat -L -c '%d:%i %n' /proc/[0-9]*/cwd 2>/dev/null |
        sed -n "s|^$here /proc/\([0-9]*\)/cwd\$|\1|p" |
        while read -r number; do
            [[ $(cat "/proc/$number/comm" 2>/dev/null) == postgres ]] && echo "$number"
        done
}

# Remove what a crash or the other node left, else the next start mistakes it for a live server.
# Called when nobody serves $PGDATA; the socket may be that of another cluster.
remove_leftovers() {
    local lock="$PGSOCKETS/.s.PGSQL.$PGPORT.lock" number
    rm -f "$PGDATA/postmaster.pid"
    [[ -e $lock ]] || return 0
    number="$(head -n 1 "$lock")"
    if [[ -e /proc/$number/cwd && $(cat "/proc/$number/comm") == postgres ]]; then
        return 0
    fi
    rm -f "$lock" "${lock%.lock}"
}

# Debian keeps the settings of a cluster outside of its data.
config_file() {
    [[ -e $PGDATA/postgresql.conf ]] && return
    local version
    version="$(cat "$PGDATA/PG_VERSION")"
    echo "/etc/postgresql/$version/$(basename "$PGDATA")/postgresql.conf"
}

# Wait for the end of who serves $PGDATA; what is left is told, one a line.
left_after_end() {
    local left
    for _ in {1..200}; do
        left="$(servers)"
        [[ -n $left ]] || return 0
        sleep 0.01
    done
    echo "$left"
}

# Argument: fast (running transactions are rolled back) or immediate (recovery at the next start).
stop_postgresql() {
    local left pg_ctl
    [[ -n $(servers) ]] || return 0
    pg_ctl="$(find_pg_ctl)" || return 1
    if as_postgres "$pg_ctl" stop -D "$PGDATA" -m "$1" -w -t 60 -s; then
        left="$(left_after_end)" # The server removes postmaster.pid, then ends.
    else
        left="$(servers)"
    fi
    if [[ -n $left && $1 == immediate ]]; then
        kill -KILL $left # Unquoted: one word for each number.
        left="$(left_after_end)"
    fi
    [[ -z $left ]] || { echo "PostgreSQL still runs as:" $left >&2; return 1; }
}

# The disk that it is on has the records of the module, too: a server that runs for long wants
# logging_collector, or logrotate with copytruncate.
keep_log_small() {
    local size
    size="$(stat --format=%s "$1" 2>/dev/null)" || return 0
    ((size < 16777216)) || mv --force "$1" "$1.1"
}
