"""What the stack needs once: `bucket` for the artifacts, and an `account` under which workers record their runs."""

import os
import sys

import boto3
from mlflow.exceptions import RestException
from mlflow.server import get_app_client


def bucket() -> None:
    """Make the bucket of MLFLOW_BUCKET, if there is none."""
    name = os.environ["MLFLOW_BUCKET"]
    s3 = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    if name not in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=name)


def account() -> None:
    """Make the account of WORKER_USERNAME and WORKER_PASSWORD, if there is none; asks as the administrator."""
    client = get_app_client("basic-auth", tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    try:
        client.create_user(os.environ["WORKER_USERNAME"], os.environ["WORKER_PASSWORD"])
    except RestException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


if __name__ == "__main__":
    {"bucket": bucket, "account": account}[sys.argv[1]]()
