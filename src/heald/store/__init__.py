"""What must outlive the process: the journal and the run folder."""
