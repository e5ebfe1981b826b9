#!/bin/sh
# Waits for conditions in turn, then becomes COMMAND. docs/wait-and-copy.md describes it.
#
# POSIX sh, and no tool that busybox lacks. tools/wait.c is the same for images without a shell.
# Names here begin with an underscore, since all others in the environment are COMMAND's.
set -u

_pause=20 # between two looks; times are hundredths of a second
_timeout=
_end=
_family=
_beginning=
_before=
_child=
_sleep=

usage() {
    cat <<'END'
Usage: wait [OPTIONS] [-- COMMAND [ARGUMENT...]]
Waits for each condition in turn, then becomes COMMAND.

conditions:
  -f, --file FILE         FILE exists
  -i, --if, --intf DEV    there is an interface DEV
  -I, --ip DEV            DEV has an IP address, other than link-local IPv6
  -t, --tcp HOST:PORT     the port answers; also [IPV6]:PORT, A:1,B:2 for both,
                          and tcp:PORT for one of this container
  -c, --command COMMAND   sh -c COMMAND succeeds; also --cmd
  --ready[=INSTANCE]      Relink runs and finds all links here as declared
settings:
  -6                      -I and -t after it mean IPv6 alone
  -s, --sleep SECONDS     between two looks (0.2)
  -u, --umask MODE        umask of COMMAND, octal
  --timeout SECONDS       for all conditions together; what is missing is named

exit codes: those of COMMAND, 0 without one; 1 wrong words; 124 timed out;
126 COMMAND cannot be run; 127 not found; 129, 130, 143 by SIGHUP, INT, TERM
example: wait -i eth0 -t db:5432 --timeout 60 -- my-server --port 80
END
}

say() {
    printf 'wait: %s\n' "$1" >&2
}

refuse() {
    say "$1; see wait --help"
    exit 1
}

each_option() { # FUNCTION WORD...: call FUNCTION LETTER VALUE for each option, up to `--`
    _function=$1
    shift
    until [ $# = 0 ] || [ "$1" = -- ]; do
        case $1 in
        -6 | --ready)
            "$_function" "${1##*-}" ''
            shift
            continue
            ;;
        --ready=*)
            "$_function" ready "${1#*=}"
            shift
            continue
            ;;
        --*=*)
            _word=$1
            shift
            set -- "${_word%%=*}" "${_word#*=}" "$@"
            ;;
        esac
        case $1 in
        -f | --file) _letter=f ;;
        -i | --if | --intf) _letter=i ;;
        -I | --ip) _letter=I ;;
        -t | --tcp) _letter=t ;;
        -c | --cmd | --command) _letter=c ;;
        -s | --sleep) _letter=s ;;
        -u | --umask) _letter=u ;;
        --timeout) _letter=T ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) refuse "no option is called $1" ;;
        *) refuse "'$1' belongs to no option; COMMAND stands after --" ;;
        esac
        if [ $# = 1 ] || [ "$2" = -- ]; then
            refuse "$1 takes a value"
        fi
        [ "$2" ] || refuse "the value of $1 is empty"
        "$_function" "$_letter" "$2"
        shift 2
    done
}

check() { # LETTER VALUE: is the value one? Nothing is waited for before all of them are.
    case $1 in
    t)
        each_address is_address "$2"
        find_nc
        ;;
    I)
        [ "$_family" ] || command -v ip >/dev/null || refuse "-I takes the program ip, which is not here"
        ;;
    s)
        is_seconds "$2" || refuse "-s takes seconds, more than 0: '$2'"
        _pause=$(hundredths "$2")
        ;;
    T)
        is_seconds "$2" || refuse "--timeout takes seconds, more than 0: '$2'"
        _timeout=$2
        ;;
    u)
        case $2 in
        *[!0-7]* | ?????* | [1-7]???) refuse "-u takes an octal mode, such as 022: '$2'" ;;
        esac
        ;;
    6) _family=6 ;;
    esac
}

is_seconds() {
    case $1 in
    *[!0-9.]* | *.*.* | ??????????*) return 1 ;;
    *[1-9]*) return 0 ;;
    esac
    return 1
}

hundredths() { # SECONDS
    _whole=${1%%.*}
    while [ "$_whole" != "${_whole#0}" ]; do # a number with it is octal
        _whole=${_whole#0}
    done
    case $1 in
    *.*) _part=${1#*.}00 ;;
    *) _part=00 ;;
    esac
    _part=${_part%"${_part#??}"}
    _part=$((${_whole:-0} * 100 + 1$_part - 100))
    echo $((_part > 0 ? _part : 1))
}

seconds() { # HUNDREDTHS: print them as sleep takes them here: some know whole ones alone
    if [ "$_whole_only" ]; then
        echo $((($1 + 99) / 100))
    else
        _part=$((100 + $1 % 100))
        echo "$(($1 / 100)).${_part#1}"
    fi
}

now() {
    read -r _now _x </proc/uptime
    echo $((${_now%.*} * 100 + 1${_now#*.} - 100))
}

each_address() { # FUNCTION LIST: call FUNCTION for each part of a list with commas
    _rest=$2,
    while [ "$_rest" ]; do
        "$1" "${_rest%%,*}"
        _rest=${_rest#*,}
    done
}

is_address() {
    split_address "$1" || refuse "-t takes HOST:PORT, [IPV6]:PORT or tcp:PORT: '$1'"
}

split_address() { # WORD: into _host, empty for this container, and _port
    _host=${1#tcp:}
    _port=${_host##*:}
    case $_host in
    '['*']:'*)
        _host=${_host%']:'*}
        _host=${_host#'['}
        ;;
    *:*:*) return 1 ;;
    *:*) _host=${_host%:*} ;;
    *) _host= ;;
    esac
    # nc must not take it for an option.
    case $_host in
    -* | *[!A-Za-z0-9._:%-]*) return 1 ;;
    esac
    case $_port in
    '' | *[!0-9]* | ??????*) return 1 ;;
    esac
    [ "$_port" -ge 1 ] && [ "$_port" -le 65535 ]
}

find_nc() { # by which words does this nc try to connect, and end at once?
    _help=$(nc -h 2>&1 </dev/null)
    case $_help in
    *-z*)
        _nc='-z -w 5'
        _nc_last=
        ;;
    *'-e PROG'*)
        _nc='-w 5'
        _nc_last='-e true'
        ;;
    *) refuse "-t takes a program nc that knows -z or -e, which is not here" ;;
    esac
    case $_help in
    *'-6'*) _nc_6='-6' ;;
    *) _nc_6= ;;
    esac
}

await() { # LETTER VALUE: wait until the condition holds
    case $1 in
    f) until_true "file $2" [ -e "$2" ] ;;
    i) until_true "interface $2" has_interface "$2" ;;
    I) until_true "an IP${_family:+v6} address on $2" has_address "$2" ;;
    t) each_address await_port "$2" ;;
    c) until_true "success of: $2" succeeds "$2" ;;
    ready) until_true "the links of this container to be as declared${2:+ by $2}" is_ready "$2" ;;
    u) umask "$2" ;;
    6) _family=6 ;;
    esac
}

until_true() { # WHAT COMMAND...: look until COMMAND succeeds
    _what=$1
    shift
    "$@" && return
    say "waiting for $_what"
    while :; do
        if is_late; then
            say "timed out after $_timeout s, waiting for $_what"
            exit 124
        fi
        nap "$_pause"
        "$@" && return
    done
}

has_interface() {
    while read -r _line; do
        case $_line in
        "$1:"*) return 0 ;;
        esac
    done </proc/net/dev
    return 1
}

has_address() {
    [ "$_family" ] || [ -z "$(ip -o -4 addr show dev "$1" 2>/dev/null)" ] || return 0
    # address, index, length, scope (20: link), flags (08: a duplicate, 40: not yet known to be
    # none), name: net/ipv6/addrconf.c
    while read -r _x _x _x _scope _flags _name; do
        if [ "$_name" = "$1" ] && [ "$_scope" != 20 ] && [ $((0x$_flags & 0x48)) = 0 ]; then
            return 0
        fi
    done 2>/dev/null </proc/net/if_inet6
    return 1
}

await_port() {
    split_address "$1"
    until_true "${_host:-this container} to answer on TCP port $_port${_family:+ by IPv6}" \
        answers "$_host" "$_port"
}

answers() { # HOST PORT
    if [ -z "$_family" ]; then
        set -- "${1:-127.0.0.1}" "$2"
    elif [ "$_nc_6" ]; then
        set -- "${1:-::1}" "$2"
    else # only an address makes it use IPv6
        set -- "$(ipv6_of "${1:-::1}")" "$2"
        [ "$1" ] || return 1
    fi
    # shellcheck disable=SC2086 # options, one a word
    in_time nc ${_family:+$_nc_6} $_nc "$1" "$2" $_nc_last >/dev/null 2>&1
}

ipv6_of() { # HOST: print its IPv6 address: it is one, or /etc/hosts has it
    case $1 in
    *:*)
        printf %s "$1"
        return
        ;;
    esac
    while read -r _address _names; do
        case "$_address ${_names%%#*} " in
        '#'*) ;;
        *:*" $1 "*)
            printf %s "$_address"
            return
            ;;
        esac
    done </etc/hosts
}

succeeds() {
    in_time sh -c "$1"
}

in_time() { # COMMAND...: does it succeed? It may take what is left.
    # A session of its own, so that all of it can be ended.
    _before=${!:-}
    _beginning=1 # a signal may come before its number is noted
    setsid "$@" &
    _child=$!
    _beginning=
    while [ "$_end" ] && runs "$_child"; do
        if is_late; then
            kill -KILL "-$_child" 2>/dev/null || kill -KILL "$_child"
            break
        fi
        nap 5
    done
    wait "$_child" 2>/dev/null # where shells say what killed it
    set -- $?
    _child=
    return "$1"
}

runs() { # PROCESS: has it not ended?
    while read -r _key _value _x; do
        case "$_key $_value" in
        'State: Z' | 'State: X') return 1 ;;
        State:*) return 0 ;;
        esac
    done 2>/dev/null </proc/"$1"/status
    return 1
}

is_late() {
    [ "$_end" ] && [ "$(now)" -ge "$_end" ]
}

nap() { # HUNDREDTHS: sleep so long, if so much is left, and hear signals
    _nap=$1
    if [ "$_end" ]; then
        _left=$((_end - $(now)))
        _nap=$((_left > _nap ? _nap : _left > 0 ? _left : 1))
    fi
    sleep "$(seconds "$_nap")" &
    _sleep=$!
    wait "$_sleep"
    _sleep=
}

is_ready() { # Relink has a Unix socket of this name here while it finds all as declared
    while read -r _x _x _x _x _x _x _x _path; do
        case $_path in
        "@relink/ready/$1") return 0 ;;
        @relink/ready/*) [ "$1" ] || return 0 ;;
        esac
    done </proc/net/unix
    return 1
}

end() { # CODE: end, and what was begun
    if [ "$_beginning" ] && [ "${!:-}" != "$_before" ]; then
        _child=$!
    fi
    if [ "$_child" ]; then
        kill -TERM "-$_child" 2>/dev/null || kill -TERM "$_child" 2>/dev/null
    fi
    [ -z "$_sleep" ] || kill -TERM "$_sleep" 2>/dev/null
    exit "$1"
}

[ $# != 0 ] || refuse "nothing to wait for"
each_option check "$@"
_family=
trap 'end 129' HUP
trap 'end 130' INT
trap 'end 143' TERM
_whole_only=
sleep 0.0 2>/dev/null || _whole_only=1
[ -z "$_timeout" ] || _end=$(($(now) + $(hundredths "$_timeout") + 1)) # now is rounded down
each_option await "$@"
until [ $# = 0 ] || [ "$1" = -- ]; do
    shift
done
[ $# -gt 1 ] || exit 0
shift
exec "$@"
