#!/bin/sh
# Copies a tree over another, with templates, then becomes COMMAND. docs/wait-and-copy.md describes it.
#
# POSIX sh, and no tool that busybox lacks. tools/copy.c is the same for images without a shell.
# Names here begin with an underscore, since all others in the environment are COMMAND's and the
# templates'.
set -u

_template=
_root=

usage() {
    cat <<'END'
Usage: copy [-T] SRC DST [-- COMMAND [ARGUMENT...]]
Copies what is in SRC over DST, at every depth, then becomes COMMAND. What SRC
does not have stays as it is in DST. SRC may be a single file.

  -T, --template  replace each {{VAR}} by VAR of the environment; one that is
                  not set is left as it is, and named. A file with a NUL byte
                  is no text, and is copied as it is.

Files and new directories keep their modes, and the owner may write. As root
they belong to root. Directories that are there keep mode and owner. Links are
copied as links.

exit codes: those of COMMAND, 0 without one; 1 wrong words, or something could
not be copied; 126 COMMAND cannot be run; 127 not found
example: copy -T /files / -- wait -i eth0 -- my-server
END
}

die() {
    printf 'copy: %s\n' "$1" >&2
    exit 1
}

refuse() {
    die "$1; see copy --help"
}

place() { # SRC DST: make DST what SRC is
    if [ -L "$1" ]; then
        place_link "$1" "$2"
    elif [ -d "$1" ]; then
        place_directory "$1" "$2"
    elif [ -f "$1" ]; then
        place_file "$1" "$2"
    else
        die "$1 is neither a file nor a directory nor a link"
    fi
}

place_directory() {
    may_be_read "$1"
    if [ ! -d "$2" ]; then
        if [ -e "$2" ] || [ -L "$2" ]; then
            die "$2 is in the way: it is no directory, and $1 is one"
        fi
        mkdir "$2" || exit 1
        finish "$1" "$2" u+rwx
    fi
    for _entry in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        if [ -e "$_entry" ] || [ -L "$_entry" ]; then # not a pattern that found nothing
            place "$_entry" "${2%/}/${_entry##*/}"
        fi
    done
}

may_be_read() { # DIRECTORY: its list takes one right, what is in it another
    if [ ! -r "$1" ] || [ ! -x "$1" ]; then
        die "$1 cannot be read"
    fi
}

place_link() {
    if [ -d "$2" ] && [ ! -L "$2" ]; then
        die "$2 is in the way: it is a directory, and $1 is a link"
    fi
    _to=$(readlink "$1" && echo .) || exit 1 # with its line feeds
    ln -sfn -- "${_to%??}" "$2" || exit 1
    [ -z "$_root" ] || chown -h 0:0 "$2" || exit 1
}

place_file() {
    [ ! -L "$2" ] || rm -f "$2" || exit 1
    if [ -e "$2" ]; then
        [ -f "$2" ] || die "$2 is in the way: it is no file, and $1 is one"
        [ "$(stat -c %d:%i "$1")" != "$(stat -c %d:%i "$2")" ] || die "$1 and $2 are one file"
    fi
    if [ "$_template" ] && is_template "$1"; then
        [ ! -e "$2" ] || [ -w "$2" ] || rm -f "$2" || exit 1
        render "$1" >"$2" || exit 1
    else
        cp -f "$1" "$2" || exit 1
    fi
    finish "$1" "$2" u+w
}

finish() { # SRC DST MODE: give DST its owner, and the mode of SRC with MODE
    _mode=$(stat -c %a "$1") || exit 1
    [ -z "$_root" ] || chown 0:0 "$2" || exit 1
    # With so many digits a directory does not keep bits that it inherited.
    chmod "00$_mode" "$2" && chmod "$3" "$2" || exit 1
}

is_template() {
    [ -r "$1" ] || die "$1 cannot be read"
    # shellcheck disable=SC2094 # both read it
    LC_ALL=C grep -qF '{{' "$1" && tr -d '\000' <"$1" | cmp -s - "$1"
}

render() { # FILE: print it with each {{VAR}} replaced
    # One line feed more than the file has, and none after the last line: the end stays as it is.
    { cat "$1" && echo; } | awk '
        BEGIN {
            file = ARGV[1]
            ARGC = 1
            ORS = ""
        }
        function rendered(line,    done, name) {
            done = ""
            while (match(line, /[{][{][A-Za-z_][A-Za-z0-9_]*[}][}]/)) {
                name = substr(line, RSTART + 2, RLENGTH - 4)
                done = done substr(line, 1, RSTART - 1)
                if (name in ENVIRON) {
                    done = done ENVIRON[name]
                } else {
                    done = done substr(line, RSTART, RLENGTH)
                    print "copy: " file ":" NR ": " name " is not set, and left as it is\n" | "cat >&2"
                }
                line = substr(line, RSTART + RLENGTH)
            }
            return done line
        }
        { print (NR > 1 ? "\n" : "") rendered($0) }
    ' "$1"
}

real_path() { # DIRECTORY: print its path without links, and a slash
    (CDPATH='' cd -P "$1" && printf %s/ "${PWD%/}")
}

is_inside() { # PATH DIRECTORY: is PATH, which need not be there, in DIRECTORY or the same?
    _up=${1%/}
    until [ -d "${_up:-/}" ]; do
        case $_up in
        */*) _up=${_up%/*} ;;
        *) _up=. ;;
        esac
    done
    case "$(real_path "${_up:-/}")" in
    "$(real_path "$2")"*) return 0 ;;
    esac
    return 1
}

copy() {
    for _word in "$1" "$2"; do
        case $_word in
        '' | -*) refuse "'$_word' is no path (./$_word is)" ;;
        esac
    done
    [ "$(id -u)" != 0 ] || _root=1
    if [ -d "$1" ]; then
        may_be_read "$1"
        ! is_inside "$2" "$1" || die "$2 is inside $1"
        if [ ! -e "$2" ]; then
            mkdir -p "$2" || exit 1
            finish "$1" "$2" u+rwx
        fi
        umask 077 # nobody else reads what is not finished
        place_directory "${1%/}" "$2"
    elif [ -f "$1" ]; then
        umask 077
        if [ -d "$2" ]; then
            place_file "$1" "${2%/}/${1##*/}"
        else
            place_file "$1" "$2"
        fi
    elif [ -e "$1" ]; then
        die "$1 is neither a file nor a directory"
    else
        die "there is no $1"
    fi
}

while :; do
    case ${1:-} in
    -T | --template) _template=1 ;;
    -h | --help)
        usage
        exit 0
        ;;
    --) break ;;
    -*) refuse "no option is called $1" ;;
    *) break ;;
    esac
    shift
done
if [ $# -lt 2 ] || [ "$1" = -- ] || [ "$2" = -- ]; then
    refuse "SRC and DST are needed"
fi
[ $# = 2 ] || [ "$3" = -- ] || refuse "'$3' is one word too many; COMMAND stands after --"
(copy "$1" "$2") || exit 1
[ $# -gt 3 ] || exit 0
shift 3
exec "$@"
