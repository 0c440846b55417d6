"""What a run tells: status, failures and the report."""
