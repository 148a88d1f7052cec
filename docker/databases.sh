#!/bin/sh
# Run once, by PostgreSQL's image, when its volume is empty: a role and a database each for MLflow and for Optuna.
set -eu
for name in mlflow optuna; do
    variable="$(echo "$name" | tr '[:lower:]' '[:upper:]')_DATABASE_PASSWORD"
    psql --username "$POSTGRES_USER" --set=ON_ERROR_STOP=1 --set=name="$name" --set=password="$(printenv "$variable")" <<'SQL'
create role :"name" login password :'password';
create database :"name" owner :"name";
revoke connect on database :"name" from public;
SQL
done
