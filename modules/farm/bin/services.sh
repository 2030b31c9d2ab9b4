# Sourced by the scripts of this module: systemd units listed in $SERVICES.
# Every script gets: [force] state next_state action.

# Units, one a line, in the order of starting.
units() { tr ', ' '\n\n' <<<"${SERVICES:-}" | grep -v '^$'; }

start_units() {
    local unit
    while read -r unit; do
        if ! systemctl start "$unit"; then
            echo "$unit does not start; see: journalctl -u $unit" >&2
            return 1
        fi
    done < <(units)
}

# A graceful stop; one that fails is told, and the next unit is stopped all the same.
stop_units() {
    local unit failed=0
    while read -r unit; do
        systemctl stop "$unit" || { echo "$unit does not stop" >&2; failed=1; }
    done < <(units | tac)
    return $failed
}

# A unit that starts, stops or waits to be started again is no active one, and must end as well:
# it would run on without its data.
kill_units() {
    local unit failed=0
    while read -r unit; do
        case "$(systemctl is-active "$unit")" in
            inactive | failed) continue ;;
        esac
        systemctl kill --signal=SIGKILL "$unit"
        systemctl stop "$unit" || failed=1
    done < <(units | tac)
    return $failed
}
