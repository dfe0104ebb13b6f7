-- Run by the postgres image once, when its volume is empty. Dagster's database is POSTGRES_DB.
CREATE DATABASE mlflow;
