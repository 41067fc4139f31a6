"""Values and files: payloads, shared memory, content digests, staging, the memo."""
