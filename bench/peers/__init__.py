"""What a user would pick instead, doing the same work on the same server in the same run."""
