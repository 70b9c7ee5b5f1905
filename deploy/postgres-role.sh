#!/bin/sh
# Run by the image of PostgreSQL when it makes its database: a role that is no superuser, and a database of its own.
set -eu
password=$(cat /run/secrets/pilothouse-password)
psql --set ON_ERROR_STOP=1 --set password="$password" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE pilothouse LOGIN PASSWORD :'password';
CREATE DATABASE pilothouse OWNER pilothouse ENCODING 'UTF8' TEMPLATE template0;
SQL
