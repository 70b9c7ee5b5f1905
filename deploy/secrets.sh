#!/bin/sh
# Draws the secrets of compose.yaml into a directory, once; never into the repository.
#
#   sh deploy/secrets.sh [DIRECTORY]        deploy/secrets when none is named
set -eu
directory=${1:-$(dirname "$0")/secrets}
if [ -e "$directory" ]; then
  echo "$directory is there already: its secrets are in use by a database, so nothing was drawn" >&2
  exit 1
fi
draw() {
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}
password=$(draw)
# Nobody else on this machine gets past the directory. The files themselves have to be readable inside of containers,
# where the users are others.
mkdir -m 0700 "$directory"
umask 022
draw > "$directory/postgres-password"
printf '%s' "$password" > "$directory/pilothouse-password"
printf 'database_url = "postgres://pilothouse:%s@postgres:5432/pilothouse"\n' "$password" > "$directory/config.toml"
echo "drew $directory" >&2
